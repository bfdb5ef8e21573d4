//! Runs the example `http_service` as a process, and its callers through faults of Redis.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use ha_redis_testkit::{Server, Topology};
use rustix::process::{Pid, Signal, kill_process};

/// How long a condition may take to come, or an answer.
const BOUND: Duration = Duration::from_secs(40);

/// What a busy machine may add to a bound.
const SLACK: Duration = Duration::from_secs(5);

struct Service {
    process: Child,
    address: SocketAddr,
    output: Lines<BufReader<ChildStdout>>,
}

impl Service {
    fn start(url: &str, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_http_service"));
        command.env("REDIS_URL", url).env("LISTEN", "127.0.0.1:0").envs(settings.iter().copied());
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = output.find(|line| line.as_ref().unwrap().starts_with("listening on ")).unwrap().unwrap();
        let address = line.strip_prefix("listening on ").unwrap().parse().unwrap();
        Self { process, address, output }
    }

    fn get(&self, path: &str) -> Answer {
        send(self.address, "GET", path, "", "")
    }

    fn log_in(&self, data: &str) -> String {
        let answer = send(self.address, "POST", "/sessions", "", data);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body
    }

    fn wait_until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(
                start.elapsed() < BOUND,
                "{what}: {:?}\n{}",
                self.get("/ready"),
                self.get("/metrics").body
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_until_ready(&self) {
        self.wait_until("ready", |service| service.get("/ready").status == 200);
    }

    /// Returns the sample of a metric.
    fn metric(&self, name: &str) -> f64 {
        let metrics = self.get("/metrics").body;
        let sample = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        sample.map_or(0.0, |sample| sample.parse().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
    took: Duration,
}

impl Answer {
    fn retry_after(&self) -> Option<u64> {
        let value = self.head.lines().find_map(|line| line.strip_prefix("retry-after: "))?;
        Some(value.parse().unwrap())
    }
}

fn send(address: SocketAddr, method: &str, path: &str, session: &str, body: &str) -> Answer {
    let start = Instant::now();
    receive(begin(address, method, path, session, body), start)
}

fn begin(address: SocketAddr, method: &str, path: &str, session: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAuthorization: Bearer {session}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

fn receive(mut stream: TcpStream, start: Instant) -> Answer {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned(), took: start.elapsed() }
}

/// What the callers of the service have seen.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    replaced: AtomicUsize,
    read: AtomicUsize,
    visits: AtomicUsize,
    visits_in_doubt: AtomicUsize,
    not_ready: AtomicUsize,
}

impl Tally {
    /// Uses a session until the end. Whatever happens to the servers, only a visit may be in doubt.
    fn call(&self, address: SocketAddr, session: &str) {
        let mut number = 0;
        while !self.stop.load(Relaxed) {
            number += 1;
            let replaced = send(address, "PUT", "/session", session, &format!("data {number}"));
            assert_eq!(replaced.status, 204, "{replaced:?}");
            self.replaced.fetch_add(1, Relaxed);
            let read = send(address, "GET", "/session", session, "");
            // A killed master loses what it has not replicated yet, so that this may be older data.
            assert!(read.status == 200 && read.body.starts_with("data "), "{read:?}");
            self.read.fetch_add(1, Relaxed);
            let visit = send(address, "POST", "/visits", session, "");
            match visit.status {
                200 => self.visits.fetch_add(1, Relaxed),
                504 => self.visits_in_doubt.fetch_add(1, Relaxed),
                _ => panic!("{visit:?}"),
            };
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Asks for the service's state until the end.
    fn probe(&self, address: SocketAddr) {
        while !self.stop.load(Relaxed) {
            let health = send(address, "GET", "/health", "", "");
            assert_eq!(health.status, 200, "{health:?}");
            let ready = send(address, "GET", "/ready", "", "");
            assert!(ready.took < Duration::from_millis(500) + SLACK, "{ready:?}");
            match ready.status {
                200 => {}
                503 => _ = self.not_ready.fetch_add(1, Relaxed),
                _ => panic!("{ready:?}"),
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the callers have been served some times more, or one has failed.
    fn wait_for_calls(&self) {
        let (before, start) = (self.read.load(Relaxed), Instant::now());
        while self.read.load(Relaxed) < before + 60 && !self.stop.load(Relaxed) {
            assert!(start.elapsed() < BOUND, "the callers are not served");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Ends the callers, also when a caller or the test fails.
struct StopOnDrop<'a>(&'a Tally);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Relaxed);
    }
}

#[test]
fn failovers_delay_requests() {
    // A probe has the time to find that there is no master. The Sentinels begin a failover again after four seconds.
    let seconds = Duration::from_secs(2);
    let topology = Topology::builder().down_after(seconds).failover_timeout(seconds).start().unwrap();
    let settings =
        [("REQUESTS_PER_MINUTE", "1000000"), ("REDIS_CALL_TIMEOUT", "30s"), ("REDIS_FAILOVER_WAIT", "30s")];
    let service = Service::start(&topology.url(), &settings);
    service.wait_until_ready();
    let sessions: Vec<String> = (0..10).map(|number| service.log_in(&format!("early {number}"))).collect();
    let callers: Vec<String> = (0..5).map(|_| service.log_in("data 0")).collect();
    topology.wait_until_healthy().unwrap();

    let tally = Tally::default();
    let not_ready_after_kill = thread::scope(|scope| {
        let stop = StopOnDrop(&tally);
        for session in &callers {
            scope.spawn(|| {
                let _stop = StopOnDrop(&tally);
                tally.call(service.address, session);
            });
        }
        scope.spawn(|| {
            let _stop = StopOnDrop(&tally);
            tally.probe(service.address);
        });
        tally.wait_for_calls();
        assert_eq!(tally.not_ready.load(Relaxed), 0);

        let replaced = topology.planned_failover().unwrap();
        topology.wait_for_new_master(replaced).unwrap();
        tally.wait_for_calls();
        topology.wait_until_healthy().unwrap();
        service.wait_until_ready();
        let not_ready = tally.not_ready.load(Relaxed);

        let killed = topology.kill_master().unwrap();
        topology.wait_for_new_master(killed).unwrap();
        tally.wait_for_calls();
        let not_ready = tally.not_ready.load(Relaxed) - not_ready;
        service.wait_until_ready();
        drop(stop);
        not_ready
    });
    assert!(not_ready_after_kill > 0, "/ready has said that there was no master");
    for (number, session) in sessions.iter().enumerate() {
        let answer = send(service.address, "GET", "/session", session, "");
        assert_eq!((answer.status, answer.body), (200, format!("early {number}")));
    }
    check_metrics(&service, &tally);

    // No visit was counted twice. A killed master may have lost some that it had not replicated yet.
    let [visits, in_doubt] = [&tally.visits, &tally.visits_in_doubt].map(|number| number.load(Relaxed));
    let master = topology.master().unwrap();
    let counted: usize = master.query(&["GET", "visits"]).unwrap().text().unwrap().parse().unwrap();
    assert!(counted <= visits + in_doubt, "{counted} were counted, {visits} answered, {in_doubt} in doubt");
    let requests = master.query(&["ZCARD", "requests:127.0.0.1"]).unwrap().integer().unwrap();
    let answered = service.metric("redis_calls_total{operation=\"rate_limit\",outcome=\"ok\"}") as i64;
    assert!((1..=answered).contains(&requests), "{requests} were counted, {answered} answered");
    assert!(in_doubt <= callers.len(), "{in_doubt}: only the kill loses replies, one a caller");
}

/// Compares the service's metrics with what its callers have seen.
fn check_metrics(service: &Service, tally: &Tally) {
    // The report of an outage comes a second after it.
    let changed = "redis_outages_total{master=\"changed\"}";
    service.wait_until("both failovers are counted", |service| service.metric(changed) >= 2.0);
    let calls = |operation: &str, outcome: &str| {
        let name = format!("redis_calls_total{{operation=\"{operation}\",outcome=\"{outcome}\"}}");
        service.metric(&name) as usize
    };
    assert_eq!(calls("replace", "ok"), tally.replaced.load(Relaxed));
    // And those of the sessions from before.
    assert_eq!(calls("read", "ok"), tally.read.load(Relaxed) + 10);
    assert_eq!(calls("visit", "ok"), tally.visits.load(Relaxed));
    assert_eq!(calls("visit", "maybe_applied"), tally.visits_in_doubt.load(Relaxed));
    let requests = ["create", "replace", "read", "visit"].map(|operation| calls(operation, "ok"));
    assert_eq!(calls("rate_limit", "ok"), requests.iter().sum::<usize>() + calls("visit", "maybe_applied"));

    assert_eq!(service.metric(changed), 2.0);
    assert_eq!(service.metric("redis_master_changes_total"), 2.0);
    assert_eq!(service.metric("redis_events_missed_total"), 0.0);
    let outages = service.metric("redis_outage_seconds_count");
    assert_eq!(outages, 2.0 + service.metric("redis_outages_total{master=\"same\"}"));
    // The Sentinels wait two seconds before they replace a killed master.
    let seconds = service.metric("redis_outage_seconds_sum");
    assert!((2.0..BOUND.as_secs_f64()).contains(&seconds), "{seconds}");
    assert!(service.metric("redis_calls_held_total") >= 1.0);
    assert!(service.metric("redis_connections_lost_total") >= 2.0);
    service.wait_until("the state of the servers", |service| {
        let metric = |name: &str| service.metric(name);
        metric("redis_up") == 1.0
            && metric("redis_connections{state=\"open\"}") == 1.0
            && metric("redis_connections{state=\"expected\"}") == 1.0
            && metric("redis_replicas{state=\"healthy\"}") == 1.0
            && metric("redis_sentinels{state=\"answering\"}") == 3.0
            && metric("redis_majority") == 1.0
            && metric("redis_epoch") >= 2.0
    });
}

#[test]
fn bounded_answers_without_servers() {
    let topology = Topology::start().unwrap();
    let bound = Duration::from_secs(1);
    let service = Service::start(&topology.url(), &[("REDIS_CALL_TIMEOUT", "1s")]);
    service.wait_until_ready();
    let session = service.log_in("data");
    for server in topology.sentinels().iter().chain(topology.servers()) {
        server.kill().unwrap();
    }

    let answers: Vec<Answer> = thread::scope(|scope| {
        let requests = [("POST", "/sessions"), ("GET", "/session"), ("PUT", "/session"), ("POST", "/visits")];
        let callers = requests.map(|(method, path)| {
            let (address, session) = (service.address, &session);
            scope.spawn(move || send(address, method, path, session, "data"))
        });
        callers.map(|caller| caller.join().unwrap()).into()
    });
    for answer in answers {
        assert_eq!((answer.status, answer.retry_after()), (503, Some(2)), "{answer:?}");
        assert!(answer.took >= bound && answer.took < bound + SLACK, "{answer:?}");
    }
    assert_eq!(service.get("/health").status, 200);
    let ready = service.get("/ready");
    assert!(ready.status == 503 && !ready.body.is_empty(), "{ready:?}");
    let states = ["redis_up", "redis_connections{state=\"open\"}", "redis_sentinels{state=\"answering\"}"];
    assert_eq!(states.map(|state| service.metric(state)), [0.0; 3]);

    for server in topology.servers().iter().chain(topology.sentinels()) {
        server.restart().unwrap();
    }
    service.wait_until_ready();
    service.log_in("data");
}

#[test]
fn start_without_server() {
    let server = Server::start().unwrap();
    server.kill().unwrap();
    let service = Service::start(&server.url(), &[("REDIS_CALL_TIMEOUT", "100ms")]);
    assert_eq!(service.get("/health").status, 200);
    assert_eq!(service.get("/ready").status, 503);
    assert_eq!(send(service.address, "POST", "/sessions", "", "data").status, 503);
    server.restart().unwrap();
    service.wait_until_ready();
    let session = service.log_in("data");
    assert_eq!(send(service.address, "GET", "/session", &session, "").body, "data");
}

#[test]
fn sessions_end() {
    let server = Server::start().unwrap();
    let service = Service::start(&server.url(), &[]);
    let session = service.log_in("old");
    let key = format!("session:{session}");
    let seconds = server.query(&["TTL", &key]).unwrap();
    assert!((3_500..=3_600).contains(&seconds.integer().unwrap()), "{seconds:?}");
    let call = |method, body| send(service.address, method, "/session", &session, body);
    assert_eq!(call("PUT", "new").status, 204);
    assert_eq!(call("GET", "").body, "new");
    assert_eq!(call("DELETE", "").status, 204);
    assert_eq!(call("DELETE", "").status, 204, "it may be sent again");
    assert_eq!([call("GET", "").status, call("PUT", "late").status], [401; 2]);
    assert_eq!(server.query(&["EXISTS", &key]).unwrap().integer(), Some(0));
    assert_eq!(send(service.address, "GET", "/session", "guessed", "").status, 401);
}

#[test]
fn clients_are_limited() {
    let server = Server::start().unwrap();
    let service = Service::start(&server.url(), &[("REQUESTS_PER_MINUTE", "3")]);
    let statuses: Vec<u16> =
        (0..3).map(|_| send(service.address, "POST", "/visits", "", "").status).collect();
    assert_eq!(statuses, [200; 3]);
    for _ in 0..3 {
        let refused = send(service.address, "POST", "/visits", "", "");
        assert_eq!(refused.status, 429);
        assert!((1..=61).contains(&refused.retry_after().unwrap()), "{refused:?}");
    }
    assert_eq!(server.query(&["GET", "visits"]).unwrap().text(), Some("3"));
    let requests = server.query(&["ZCARD", "requests:127.0.0.1"]).unwrap();
    assert_eq!(requests.integer(), Some(3), "refused requests take no memory");
    assert_eq!(service.get("/ready").status, 200, "probes are not limited");
}

#[test]
fn limit_of_zero_is_refused() {
    for limit in ["0", "many"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_http_service"));
        // It does not run, whatever the limit.
        command.env("REDIS_URL", "redis://127.0.0.1:1").env("LISTEN", "nowhere");
        let service = command.env("REQUESTS_PER_MINUTE", limit).output().unwrap();
        let err = String::from_utf8_lossy(&service.stderr);
        let expected = "cannot read REQUESTS_PER_MINUTE: expected a whole number from 1 to 4294967295";
        assert!(!service.status.success() && err.contains(expected), "{err}");
    }
}

#[test]
fn permanent_refusals_are_not_sent_again() {
    let server = Server::start().unwrap();
    let service = Service::start(&server.url(), &[]);
    let session = service.log_in("data");
    let read = || send(service.address, "GET", "/session", &session, "");
    let visit = || send(service.address, "POST", "/visits", "", "");
    let run = |command: &[&str]| _ = server.query(command).unwrap();

    let key = format!("session:{session}");
    run(&["DEL", &key]);
    run(&["RPUSH", &key, "of another type"]);
    run(&["SET", "visits", "no number"]);
    for (refused, cause) in [(read(), "WRONGTYPE"), (visit(), "not an integer")] {
        assert_eq!((refused.status, refused.retry_after()), (500, None), "{refused:?}");
        assert!(refused.body.contains(cause), "{refused:?}");
    }
    run(&["DEL", &key, "visits"]);
    run(&["ACL", "SETUSER", "default", "-get", "-incrby"]);
    for refused in [read(), visit()] {
        assert_eq!((refused.status, refused.retry_after()), (500, None), "{refused:?}");
    }
    run(&["ACL", "SETUSER", "default", "+@all"]);
    assert_eq!((read().status, visit().status), (401, 200));

    // Memory may become free.
    run(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = visit();
    assert_eq!((refused.status, refused.retry_after()), (503, Some(2)), "{refused:?}");
    assert!(refused.body.contains("OOM"), "{refused:?}");
    run(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(visit().body, "2");
}

#[test]
fn running_requests_end_before_the_service() {
    // What Kubernetes and systemd send, and Ctrl-C.
    for signal in [Signal::TERM, Signal::INT] {
        end_service(signal);
    }
}

fn end_service(signal: Signal) {
    let server = Server::start().unwrap();
    let mut service = Service::start(&server.url(), &[]);
    let session = service.log_in("data");
    server.hang().unwrap();
    let start = Instant::now();
    let running = begin(service.address, "GET", "/session", &session, "");
    // The service has taken that request before these.
    service.wait_until("the server hangs", |service| service.get("/ready").status == 503);
    service.signal(signal);
    wait_until_refused(service.address);
    server.resume().unwrap();
    let answer = receive(running, start);
    assert_eq!((answer.status, &*answer.body), (200, "data"), "{answer:?}");
    let lines: Vec<String> = service.output.by_ref().map(Result::unwrap).collect();
    assert!(service.process.wait().unwrap().success());
    assert_eq!(lines.last().unwrap(), "closed: 0 calls cut as not sent, 0 as maybe applied");
}

#[test]
fn cancelled_requests_are_counted() {
    let server = Server::start().unwrap();
    let service = Service::start(&server.url(), &[]);
    service.wait_until_ready();
    server.hang().unwrap();
    let visit = begin(service.address, "POST", "/visits", "", "");
    // The service has taken the visit before these.
    service.wait_until("the server hangs", |service| service.get("/ready").status == 503);
    drop(visit);
    let cancelled = "redis_calls_total{operation=\"rate_limit\",outcome=\"cancelled\"}";
    service.wait_until("it is counted", |service| service.metric(cancelled) == 1.0);
    server.resume().unwrap();
    service.wait_until_ready();
    assert_eq!(send(service.address, "POST", "/visits", "", "").body, "1");
}

/// Waits until the service takes no new connections.
fn wait_until_refused(address: SocketAddr) {
    let start = Instant::now();
    while TcpStream::connect(address).is_ok() {
        assert!(start.elapsed() < BOUND, "the service still accepts connections");
        thread::sleep(Duration::from_millis(10));
    }
}
