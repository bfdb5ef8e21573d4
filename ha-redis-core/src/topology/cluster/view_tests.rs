use redis::Value;

use super::*;

/// An ID that ends with this digit.
fn id(digit: char) -> NodeId {
    NodeId::parse(format!("{}{digit}", "0".repeat(39)).as_bytes()).unwrap()
}

/// A text with `#a` in place of the ID that ends with `a`.
fn with_ids(text: &str) -> Value {
    let mut written = String::new();
    for (index, part) in text.split('#').enumerate() {
        if index > 0 {
            written.push_str(&"0".repeat(39));
        }
        written.push_str(part);
    }
    Value::BulkString(written.into_bytes())
}

fn asked() -> Address {
    Address::tcp("asked", 7000)
}

fn bulk(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

fn error(text: &str) -> Value {
    redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap()
}

/// A node of CLUSTER SLOTS.
fn slots_node(host: Value, port: i64, digit: char) -> Value {
    let metadata = Value::Map(vec![(bulk("hostname"), bulk("other.example"))]);
    Value::Array(vec![host, Value::Int(port), bulk(&id(digit).to_string()), metadata])
}

fn slots(ranges: Vec<(i64, i64, Vec<Value>)>) -> Value {
    let range = |(first, last, nodes): (i64, i64, Vec<Value>)| {
        Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat())
    };
    Value::Array(ranges.into_iter().map(range).collect())
}

fn view(nodes: &str) -> ClusterView {
    read_view(&asked(), &with_ids(nodes), &error("NOPERM no")).unwrap()
}

fn address_of(nodes: &str, digit: char) -> Option<Address> {
    view(nodes).nodes[&id(digit)].address.clone()
}

const THREE: &str = "\
#a 10.0.0.1:7000@17000 myself,master - 0 1700000000000 7 connected 0-5460 5462 [93->-#b] [77-<-#b]
#b 10.0.0.2:7000@17000 master,fail? - 1 2 8 disconnected 5461 5463-16383
#c 10.0.0.3:7000@17000 slave,nofailover #a 0 3 7 connected
";

#[test]
fn reads_every_field_of_cluster_nodes() {
    let view = view(THREE);
    let range = |first, last| SlotRange::new(first, last).unwrap();
    assert_eq!(view.myself, Some(id('a')));
    let expected = ViewedNode {
        address: Some(Address::tcp("10.0.0.1", 7000)),
        role: NodeRole::Master,
        health: NodeHealth::Well,
        is_barred: false,
        epoch: Some(7),
        link_up: true,
        slots: vec![range(0, 5460), range(5462, 5462)],
        migrating: vec![93, 77],
    };
    assert_eq!(view.own(), Some((id('a'), &expected)));
    let b = &view.nodes[&id('b')];
    assert_eq!((b.health, b.link_up, b.epoch), (NodeHealth::Suspected, false, Some(8)));
    let c = &view.nodes[&id('c')];
    assert_eq!((c.role, c.is_barred, c.slots.len()), (NodeRole::Replica(Some(id('a'))), true, 0));
    assert!(view.serves_slots());
}

#[test]
fn reads_addresses_of_all_versions() {
    for (text, expected) in [
        // Redis 3, Redis 4 to 6, Redis 7 and 8 with a host name, Valkey with fields, IPv6.
        ("10.0.0.2:7000", Some(Address::tcp("10.0.0.2", 7000))),
        ("10.0.0.2:7000@17000", Some(Address::tcp("10.0.0.2", 7000))),
        ("10.0.0.2:7000@17000,b.example", Some(Address::tcp("10.0.0.2", 7000))),
        ("10.0.0.2:7000@17000,,tls-port=0,shard-id=1", Some(Address::tcp("10.0.0.2", 7000))),
        ("10.0.0.2:7000@17000,b.example,nodename=x,shard-id=1", Some(Address::tcp("10.0.0.2", 7000))),
        ("2001:db8::2:7000@17000", Some(Address::tcp("2001:db8::2", 7000))),
        (":7001@17001", Some(Address::tcp("asked", 7001))),
        (":0@0", None),
        ("10.0.0.2:0@17000", None),
        ("0.0.0.0:7000@17000", None),
        ("a b", None),
    ] {
        let line = |address: &str| format!("#b {address} master - 0 0 1 connected 0\n");
        if text == "a b" {
            let reply = with_ids(&line("\u{1b}[2Jx"));
            let error = read_view(&asked(), &reply, &Value::Nil).unwrap_err().to_string();
            assert_eq!(error, r"line 1 of CLUSTER NODES has an invalid address: `\u{1b}[2Jx`");
        } else {
            assert_eq!(address_of(&line(text), 'b'), expected, "{text}");
        }
    }
    assert_eq!(address_of("#b 10.0.0.2:7000@17000 master,noaddr - 0 0 1 disconnected 0\n", 'b'), None);
    let alone = address_of("#a :7000@17000 myself,master - 0 0 0 connected\n", 'a');
    assert_eq!(alone, Some(asked()), "a node that does not know its own address is the one that was asked");
}

#[test]
fn nodes_in_a_handshake_are_left_out_and_unknown_roles_kept() {
    let view = view(
        "#a 10.0.0.1:7000@17000 myself,master - 0 0 0 connected\n\
         #b 10.0.0.2:7000@17000 handshake - 0 0 0 disconnected\n\
         #c :0@0 noflags - 0 0 0 disconnected\n",
    );
    assert_eq!(view.nodes.keys().copied().collect::<Vec<_>>(), [id('a'), id('c')]);
    assert_eq!(view.nodes[&id('c')].role, NodeRole::Unknown);
}

#[test]
fn cluster_slots_says_where_to_connect() {
    let at = |host: Value| {
        let slots = slots(vec![(0, 5460, vec![slots_node(host, 7000, 'b')])]);
        let view = read_view(&asked(), &with_ids(THREE), &slots).unwrap();
        (view.nodes[&id('b')].address.clone(), view.nodes[&id('c')].address.clone())
    };
    let tcp = |host: &str| Some(Address::tcp(host, 7000));
    assert_eq!(at(bulk("b.example")), (tcp("b.example"), tcp("10.0.0.3")));
    assert_eq!(at(Value::SimpleString("b.example".into())), (tcp("b.example"), tcp("10.0.0.3")));
    let unknown = (tcp("10.0.0.2"), tcp("10.0.0.3"));
    assert_eq!(at(bulk("?")), unknown, "an unknown name leaves the IP address");
    assert_eq!(
        at(Value::Nil),
        (tcp("asked"), tcp("asked")),
        "null is the host that was asked, for all nodes"
    );
    assert_eq!(at(bulk("")), (tcp("asked"), tcp("asked")));
}

#[test]
fn nodes_missing_in_cluster_slots_get_the_same_kind_of_endpoint() {
    let nodes = "#a 10.0.0.1:7000@17000,a.example myself,master - 0 0 1 connected 0-16383\n\
                 #b 10.0.0.2:7000@17000,b.example master - 0 0 2 connected\n\
                 #c 10.0.0.3:7000@17000 slave #a 0 0 1 connected\n";
    let slots = slots(vec![(0, 16383, vec![slots_node(bulk("a.example"), 7000, 'a')])]);
    let view = read_view(&asked(), &with_ids(nodes), &slots).unwrap();
    let hosts: Vec<_> = view.nodes.values().map(|node| node.address.as_ref().unwrap().to_string()).collect();
    assert_eq!(hosts, ["a.example:7000", "b.example:7000", "10.0.0.3:7000"]);
}

#[test]
fn either_answer_is_enough() {
    let refused = error("NOPERM this user has no permissions");
    let ranges = slots(vec![
        (0, 99, vec![slots_node(bulk("asked"), 7000, 'a'), slots_node(bulk("10.0.0.3"), 7000, 'c')]),
        (100, 199, vec![slots_node(bulk("10.0.0.2"), 7000, 'b')]),
        (200, 299, vec![slots_node(bulk("asked"), 7000, 'a')]),
    ]);
    let view = read_view(&asked(), &refused, &ranges).unwrap();
    assert_eq!(view.myself, Some(id('a')), "the node at the address that was asked");
    let a = &view.nodes[&id('a')];
    assert_eq!((a.role, a.epoch, a.slots.len()), (NodeRole::Master, None, 2));
    assert_eq!(view.nodes[&id('c')].role, NodeRole::Replica(Some(id('a'))));
    assert_eq!(read_view(&asked(), &with_ids(THREE), &refused).unwrap().nodes.len(), 3);
    assert_eq!(
        read_view(&asked(), &refused, &refused),
        Err(ViewError::Refused("NOPERM this user has no permissions".to_owned()))
    );
}

#[test]
fn cluster_slots_alone_must_name_a_node() {
    let refused = error("NOPERM no");
    let unknown = slots(vec![(0, 1, vec![slots_node(bulk("?"), 7000, 'a')])]);
    for reply in [slots(Vec::new()), unknown] {
        let what = read_view(&asked(), &refused, &reply).unwrap_err().to_string();
        assert_eq!(what, "CLUSTER SLOTS lists no node that can be reached");
    }
}

#[test]
fn protocols_give_the_same_view() {
    let Value::BulkString(bytes) = with_ids(THREE) else { unreachable!() };
    let text = String::from_utf8(bytes).unwrap();
    let verbatim = Value::VerbatimString { format: redis::VerbatimFormat::Text, text };
    assert_eq!(
        read_view(&asked(), &verbatim, &Value::Nil),
        read_view(&asked(), &with_ids(THREE), &Value::Nil)
    );
}

#[test]
fn queries_ask_for_both_answers() {
    let written = crate::topology::cluster::view_queries()
        .map(|query| String::from_utf8(query.get_packed_command()).unwrap());
    assert!(written[0].contains("CLUSTER") && written[0].contains("NODES"));
    assert!(written[1].contains("CLUSTER") && written[1].contains("SLOTS"));
}

#[test]
fn server_without_cluster_mode_is_told_apart() {
    let off = error("ERR This instance has cluster support disabled");
    assert_eq!(read_view(&asked(), &off, &off), Err(ViewError::ClusterDisabled));
}

#[test]
fn invalid_answers_say_what_is_wrong() {
    let line = |rest: &str| format!("#a 10.0.0.1:1@2 {rest}");
    for (nodes, mistake) in [
        (String::new(), "CLUSTER NODES lists no node"),
        ("x".to_owned(), "line 1 of CLUSTER NODES has no address"),
        ("x y master - 0 0 1 connected".to_owned(), "has no node ID: `x`"),
        (line("master - 0 0"), "has no epoch"),
        (line("master - 0 0 -1 connected"), "has an invalid epoch: `-1`"),
        (line("master - 0 0 99999999999999999999 connected"), "has an invalid epoch"),
        (line("master - 0 0 1 connected 16384"), "has invalid slots: `16384`"),
        (line("master - 0 0 1 connected 5-4"), "has invalid slots: `5-4`"),
        (line("master - 0 0 1 connected [5-x]"), "has invalid slots: `[5-x]`"),
        (
            format!("{}\n{}", line("master - 0 0 1 connected"), line("master - 0 0 1 connected")),
            "repeats a node",
        ),
        (
            format!("{}\n#b 10.0.0.1:1@2 myself - 0 0 1 connected", line("myself - 0 0 1 connected")),
            "is the second that is marked `myself`",
        ),
        (line(&format!("master - 0 0 1 connected{}", " 1".repeat(40_000))), "has 80"),
        ("#a 10.0.0.1:1@2 handshake - 0 0 1 connected\n".repeat(1_001), "lists more than 1000 nodes"),
    ] {
        let result = read_view(&asked(), &with_ids(&nodes), &Value::Array(Vec::new()));
        let Err(ViewError::Invalid(what)) = result else { panic!("{mistake}: {result:?}") };
        assert!(what.contains(mistake), "{mistake}: {what}");
    }
    for (reply, mistake) in [
        (Value::Nil, "CLUSTER SLOTS replied with nil"),
        (Value::Array(vec![Value::Nil; 16_385]), "lists 16385 ranges"),
        (slots(vec![(0, 1, Vec::new())]), "an invalid range: a list of 2 values"),
        (slots(vec![(0, 16_384, vec![slots_node(Value::Nil, 1, 'a')])]), "an invalid range"),
        (slots(vec![(0, 1, vec![slots_node(Value::Nil, 70_000, 'a')])]), "an invalid node"),
        (slots(vec![(0, 1, vec![Value::Array(vec![Value::Nil, Value::Int(1)])])]), "an invalid node"),
    ] {
        let result = read_view(&asked(), &error("NOPERM no"), &reply);
        assert!(matches!(&result, Err(ViewError::Refused(_))), "{mistake}: {result:?}");
        let what = read_slots(&reply).unwrap_err();
        assert!(what.contains(mistake), "{mistake}: {what}");
    }
}

#[test]
fn passwords_are_no_addresses() {
    let secrets = Secrets::new(["10.0.0.2-is-a-password"]);
    let view = view("#a 10.0.0.2-is-a-password:7000@17000 master - 0 0 1 connected 0\n");
    assert!(view.nodes[&id('a')].address.is_some());
    assert_eq!(view.without_secrets(&secrets).nodes[&id('a')].address, None);
}
