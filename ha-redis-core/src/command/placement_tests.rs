use super::super::command;
use super::super::tables::entries;
use super::*;

fn pipeline(commands: &[&str]) -> Pipeline {
    let mut pipeline = Pipeline::new();
    for text in commands {
        pipeline.add_command(command(text));
    }
    pipeline
}

fn blocking(milliseconds: u64) -> Placement {
    Placement::Blocking { limit: Some(Duration::from_millis(milliseconds)) }
}

const FOREVER: Placement = Placement::Blocking { limit: None };

/// Returns the name of the refused command, or `None`.
fn refused(place: Placement) -> Option<&'static str> {
    match place {
        Placement::Refused(refusal) => Some(refusal.command()),
        _ => None,
    }
}

#[test]
fn most_commands_are_shared() {
    for text in [
        "GET k",
        "set k v",
        "INCR k",
        "CLIENT PAUSE 100",
        "CLIENT ID",
        "CLIENT",
        "client kill id 5",
        "SCRIPT LOAD x",
        "SCRIPT FLUSH",
        "CLUSTER NODES",
        "BITCOUNT k",
        "BGREWRITEAOF",
        "BF.ADD b i",
        "XREADGROUP GROUP BLOCK 5 STREAMS s >",
        "XREAD STREAMS BLOCK 5",
        "TS.READ k 0 MAX_COUNT 5",
        "TS.READ BLOCK 0",
        "XREAD STREAMS s 0",
    ] {
        assert_eq!(placement(&command(text)), Placement::Shared, "{text}");
        assert_eq!(placement_on_dedicated(&command(text)), Placement::Shared, "{text}");
    }
}

#[test]
fn script_kill_and_shutdown_are_urgent() {
    for text in ["SCRIPT KILL", "script kill", "FUNCTION KILL", "SHUTDOWN NOSAVE"] {
        assert_eq!(placement(&command(text)), Placement::Urgent, "{text}");
        assert_eq!(placement_on_dedicated(&command(text)), Placement::Shared, "{text}");
        assert_eq!(pipeline_placement(&pipeline(&["GET k", text])), Placement::Shared, "{text}");
    }
    assert_eq!(placement(&command("FUNCTION LIST")), Placement::Shared);
}

#[test]
fn blocking_limit_from_argument() {
    for (text, expected) in [
        ("BLPOP a b 2", blocking(2000)),
        ("brpop a 0.25", blocking(250)),
        ("BLMOVE a b LEFT RIGHT 1", blocking(1000)),
        ("BRPOPLPUSH a b 1", blocking(1000)),
        ("BLMPOP 1.5 1 a LEFT", blocking(1500)),
        ("BZPOPMIN z 1", blocking(1000)),
        ("BZPOPMAX z 1e1", blocking(10_000)),
        ("BZMPOP 3 1 z MIN", blocking(3000)),
        ("XREAD COUNT 5 BLOCK 70 STREAMS s $", blocking(70)),
        ("XREADGROUP GROUP g c BLOCK 80 STREAMS s >", blocking(80)),
        ("XREADGROUP GROUP BLOCK 9 COUNT 1 block 80 NOACK STREAMS s >", blocking(80)),
        ("XREADGROUP BLOCK 80 GROUP g c STREAMS s >", blocking(80)),
        ("BLPOP a 0", FOREVER),
        ("BLPOP a 0.0", FOREVER),
        ("XREAD BLOCK 0 STREAMS s $", FOREVER),
        ("XREAD BLOCK 5 BLOCK 0 STREAMS s $", FOREVER),
        ("XREADGROUP GROUP g c CLAIM 5 BLOCK 80 STREAMS s >", blocking(80)),
        ("BLMOVEM a b LEFT RIGHT 2 COUNT 5 OBO", blocking(2000)),
        ("TS.READ k 0 BLOCK 70 1 MAX_COUNT 5", blocking(70)),
        ("TS.READ k 0 MAX_COUNT 5 BLOCK 0 1", FOREVER),
    ] {
        assert_eq!(placement(&command(text)), expected, "{text}");
        assert_eq!(placement_on_dedicated(&command(text)), expected, "{text}");
    }
}

/// Compares with the servers' own tables.
#[test]
fn blocking_commands_are_not_shared() {
    for entry in entries().filter(|entry| entry.is("blocking")) {
        let text = match entry.name {
            "xread" | "xreadgroup" => format!("{} BLOCK 0 STREAMS s 0", entry.name),
            name => format!("{name} a b c d 0"),
        };
        let place = placement_on_dedicated(&command(&text));
        assert_eq!(place, FOREVER, "{} of {}", entry.name, entry.server);
        assert_ne!(placement(&command(&text)), Placement::Shared, "{} of {}", entry.name, entry.server);
    }
    for entry in entries().filter(|entry| entry.name.starts_with('b') && !entry.is("blocking")) {
        let place = placement(&command(&entry.words()));
        assert!(!matches!(place, Placement::Blocking { .. }), "{}", entry.name);
    }
}

/// A server parses hexadecimal numbers, among other forms, and rounds `-0.0001` to zero.
#[test]
fn unparsable_timeout_counts_as_forever() {
    for text in [
        "BLPOP a 0x3",
        "BRPOP a 0X1p3",
        "BLPOP a -0.0001",
        "BLPOP a -1",
        "BLPOP a 1e-400",
        "BLPOP a soon",
        "BLPOP a inf",
        "BLPOP a nan",
        "BLPOP a 1e300",
        "BLPOP",
        "BLMOVE a b LEFT RIGHT",
        "BLMPOP 0x3 1 a LEFT",
        "XREAD BLOCK -1 STREAMS s $",
        "XREAD BLOCK",
        "TS.READ k 0 BLOCK",
    ] {
        assert_eq!(placement(&command(text)), FOREVER, "{text}");
    }
    assert_eq!(placement_on_dedicated(&command("WAIT 1 0x3")), FOREVER);
}

#[test]
fn unknown_command_with_b_may_block() {
    for text in ["BLNEW a 5", "bznew", "BSADDANDMUCHMOREOFTHATKINDOFNAME a"] {
        assert_eq!(placement(&command(text)), FOREVER, "{text}");
    }
    for text in ["NEW a 5", "BF.NEW k", "\u{e9}"] {
        assert_eq!(placement(&command(text)), Placement::Shared, "{text}");
    }
}

#[test]
fn commands_that_break_reply_order_refused_everywhere() {
    for (text, name) in [
        ("subscribe c", "SUBSCRIBE"),
        ("PSUBSCRIBE c", "PSUBSCRIBE"),
        ("SSUBSCRIBE c", "SSUBSCRIBE"),
        ("UNSUBSCRIBE", "UNSUBSCRIBE"),
        ("PUNSUBSCRIBE", "PUNSUBSCRIBE"),
        ("SUNSUBSCRIBE", "SUNSUBSCRIBE"),
        ("MONITOR", "MONITOR"),
        ("SYNC", "SYNC"),
        ("PSYNC ? -1", "PSYNC"),
        ("REPLCONF ACK 1", "REPLCONF"),
        ("QUIT", "QUIT"),
        ("AUTH p", "AUTH"),
        ("HELLO 3", "HELLO"),
        ("RESET", "RESET"),
        ("client reply OFF", "CLIENT REPLY"),
        ("SCRIPT DEBUG YES", "SCRIPT DEBUG"),
        ("CLUSTER SYNCSLOTS", "CLUSTER SYNCSLOTS"),
        ("", "a command without a name"),
    ] {
        assert_eq!(refused(placement(&command(text))), Some(name), "{text}");
        assert_eq!(refused(placement_on_dedicated(&command(text))), Some(name), "{text}");
    }
}

#[test]
fn connection_state_needs_dedicated() {
    for (text, name) in [
        ("MULTI", "MULTI"),
        ("exec", "EXEC"),
        ("DISCARD", "DISCARD"),
        ("WATCH k", "WATCH"),
        ("UNWATCH", "UNWATCH"),
        ("SELECT 1", "SELECT"),
        ("READONLY", "READONLY"),
        ("READWRITE", "READWRITE"),
        ("ASKING", "ASKING"),
        ("CLIENT TRACKING ON", "CLIENT TRACKING"),
        ("CLIENT CACHING YES", "CLIENT CACHING"),
        ("CLIENT SETNAME n", "CLIENT SETNAME"),
        ("CLIENT SETINFO LIB-NAME n", "CLIENT SETINFO"),
        ("CLIENT NO-EVICT ON", "CLIENT NO-EVICT"),
        ("CLIENT NO-TOUCH ON", "CLIENT NO-TOUCH"),
        ("CLIENT CAPA redirect", "CLIENT CAPA"),
        ("CLIENT IMPORT-SOURCE ON", "CLIENT IMPORT-SOURCE"),
        ("client maint_notifications on", "CLIENT MAINT_NOTIFICATIONS"),
        ("CLIENT NEW", "this CLIENT subcommand"),
        ("CLIENT NEWANDMUCHLONGERTHANANYTHATISKNOWN", "this CLIENT subcommand"),
        ("SCRIPT NEW", "this SCRIPT subcommand"),
        ("HIMPORT PREPARE f a b", "HIMPORT"),
        ("HIMPORT SET k f 1 2", "HIMPORT"),
    ] {
        assert_eq!(refused(placement(&command(text))), Some(name), "{text}");
        assert_eq!(placement_on_dedicated(&command(text)), Placement::Shared, "{text}");
    }
}

#[test]
fn wait_stays_with_its_writes() {
    for (text, name) in [("WAIT 1 100", "WAIT"), ("WAITAOF 1 1 100", "WAITAOF")] {
        assert_eq!(refused(placement(&command(text))), Some(name));
        assert_eq!(placement_on_dedicated(&command(text)), blocking(100));
        assert_eq!(pipeline_placement(&pipeline(&["SET k v", text])), blocking(100));
        assert_eq!(refused(pipeline_placement(&pipeline(&[text, "SET k v"]))), Some(name));
    }
    assert_eq!(placement_on_dedicated(&command("WAIT 1 0")), FOREVER);
}

#[test]
fn pipeline_adds_up_blocking_limits() {
    assert_eq!(pipeline_placement(&pipeline(&[])), Placement::Shared);
    assert_eq!(pipeline_placement(&pipeline(&["GET k", "SET k v"])), Placement::Shared);
    let mixed = pipeline(&["GET k", "BLPOP a 1", "XREAD BLOCK 5 STREAMS s $", "GET k"]);
    assert_eq!(pipeline_placement(&mixed), blocking(1005));
    assert_eq!(pipeline_placement_on_dedicated(&mixed), blocking(1005));
    assert_eq!(pipeline_placement(&pipeline(&["BLPOP a 0", "BLPOP a 1"])), FOREVER);
    assert_eq!(pipeline_placement(&pipeline(&["BLPOP a 1", "BLPOP a 0"])), FOREVER);
    assert_eq!(pipeline_placement(&pipeline(&["GET k", "SCAN 5", "GET k"])), Placement::Scan);
    for both in [["BLPOP a 1", "SCAN 5"], ["SCAN 5", "BLPOP a 1"]] {
        assert!(
            matches!(pipeline_placement(&pipeline(&both)), Placement::Refused(_)),
            "the scan needs the process of its cursor"
        );
        assert_eq!(pipeline_placement_on_dedicated(&pipeline(&both)), blocking(1000));
    }
}

#[test]
fn atomic_pipeline_does_not_block() {
    assert_eq!(pipeline_placement(pipeline(&["BLPOP a 1", "GET k"]).atomic()), Placement::Shared);
}

#[test]
fn unqueued_commands_refused_in_atomic_pipeline() {
    for text in ["MULTI", "EXEC", "DISCARD", "WATCH k"] {
        let mut pipeline = pipeline(&["GET k", text]);
        assert_eq!(pipeline_placement_on_dedicated(&pipeline), Placement::Shared, "{text}");
        let Placement::Refused(refusal) = pipeline_placement_on_dedicated(pipeline.atomic()) else {
            panic!("{text} is not queued");
        };
        assert!(refusal.to_string().contains("atomic pipeline"), "{refusal}");
        assert!(refused(pipeline_placement(&pipeline)).is_some_and(|name| text.starts_with(name)));
    }
    assert_eq!(pipeline_placement_on_dedicated(pipeline(&["UNWATCH"]).atomic()), Placement::Shared);
}

#[test]
fn pipeline_refused_for_one_command() {
    let select = ["GET k", "BLPOP a 1", "SELECT 1"];
    assert_eq!(refused(pipeline_placement(&pipeline(&select))), Some("SELECT"));
    assert_eq!(refused(pipeline_placement(pipeline(&select).atomic())), Some("SELECT"));
    assert_eq!(pipeline_placement_on_dedicated(&pipeline(&select)), blocking(1000));
    assert_eq!(refused(pipeline_placement_on_dedicated(&pipeline(&["GET k", "QUIT"]))), Some("QUIT"));
}

#[test]
fn refusal_message_has_remedy() {
    let Placement::Refused(refusal) = placement(&command("SELECT 1")) else { panic!("not refused") };
    assert!(refusal.reason().contains("configuration"));
    assert_eq!(refusal.to_string(), format!("SELECT cannot run on this connection: {}", refusal.reason()));
}
