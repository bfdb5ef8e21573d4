# Runs one server for a test, and outlives the test by just long enough to clean up after it.
#
# Arguments: the server's folder, then the server's command line.
# Requests come as lines on standard input; each is answered by one line. The end of the input, which also comes
# when the test's process dies in whatever way, ends the server and removes its folder.

# Only the end of the input ends this script. PIPE: an answer may find nobody left to read it.
trap '' HUP INT QUIT TERM PIPE

folder=$1
shift
server=

# `jobs` reaps a server that has ended: until then its pid exists, so it can be taken by no other process.
running() {
    jobs >/dev/null
    kill -s 0 "$server" 2>/dev/null
}

while read -r request signal; do
    case $request in
    start)
        "$@" </dev/null >>"$folder/log" 2>&1 &
        server=$!
        echo "$server"
        ;;
    running)
        if running; then echo yes; else echo no; fi
        ;;
    signal)
        if running && kill -s "$signal" "$server"; then echo yes; else echo no; fi
        ;;
    esac
done

if running; then kill -s KILL "$server"; fi
wait
rm -rf -- "$folder"
