# Runs one server for a test, and cleans up after the test has ended.
#
# Arguments: the server's folder, then the server's command line.
# Reads requests as lines from standard input, and answers each with one line. The end of the input, which also comes
# when the test's process dies in any way, kills the server and removes its folder.

# Only the end of the input ends this script. PIPE is ignored because the reader of an answer may be gone.
trap '' HUP INT QUIT TERM PIPE

folder=$1
shift
server=

# `jobs` reaps a server that has ended. Until then the pid exists, so that no other process can reuse it.
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
