use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Wake;

use proptest::prelude::*;

use super::*;
use crate::manual_runtime::ManualRuntime;

const LONG: Duration = Duration::from_secs(3600);

/// What the waiters of a test wait for.
#[derive(Debug, Default)]
struct Things {
    free: usize,
    queue: WaitQueue,
}

impl Things {
    fn find(&mut self) -> (&mut WaitQueue, usize) {
        (&mut self.queue, self.free)
    }
}

/// The waiters whose wakers were called.
type Woken = Arc<Mutex<BTreeSet<usize>>>;

/// Wakes one waiter.
struct Alarm {
    number: usize,
    woken: Woken,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        lock(&self.woken).insert(self.number);
    }
}

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<(), Elapsed>> + 'a>>;

/// Waiters for the same things.
struct Scene<'a> {
    things: &'a Mutex<Things>,
    runtime: &'a ManualRuntime,
    waiters: Vec<Option<Waiting<'a>>>,
    woken: Woken,
    /// Those who are not polled.
    absent: BTreeSet<usize>,
    /// Those who got something, in this order.
    served: Vec<usize>,
}

impl<'a> Scene<'a> {
    fn new(things: &'a Mutex<Things>, runtime: &'a ManualRuntime) -> Self {
        let (woken, absent) = (Woken::default(), BTreeSet::new());
        Self { things, runtime, waiters: Vec::new(), woken, absent, served: Vec::new() }
    }

    /// A further waiter comes, is polled once, and is not polled again before it comes back.
    fn join_absent(&mut self) -> usize {
        let number = self.join();
        self.absent.insert(number);
        number
    }

    fn come_back(&mut self, number: usize) {
        self.absent.remove(&number);
        self.poll(number);
    }

    /// A further waiter comes, and is polled once.
    fn join(&mut self) -> usize {
        self.join_until(self.runtime.now() + LONG)
    }

    fn join_until(&mut self, bound: Instant) -> usize {
        let (things, runtime) = (self.things, self.runtime);
        self.waiters.push(Some(Box::pin(async move {
            let mut ticket = Ticket::new(things, Things::find);
            let take = |things: &mut Things, is_served: bool, _: &mut Context<'_>| {
                is_served.then(|| things.free -= 1)
            };
            ticket.wait(runtime, bound, take).await
        })));
        let number = self.waiters.len() - 1;
        self.poll(number);
        number
    }

    fn poll(&mut self, number: usize) {
        let Some(waiter) = &mut self.waiters[number] else { return };
        let waker = Waker::from(Arc::new(Alarm { number, woken: Arc::clone(&self.woken) }));
        if let Poll::Ready(ended) = waiter.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.waiters[number] = None;
            self.served.extend(ended.is_ok().then_some(number));
        }
    }

    /// One thing more is there.
    fn add(&self) {
        let mut things = lock(self.things);
        things.free += 1;
        let (queue, available) = things.find();
        let next = queue.call(available);
        drop(things);
        next.into_iter().for_each(wake);
    }

    /// Polls those who were woken, until nobody is. Returns how many there were.
    fn run(&mut self) -> usize {
        let mut polls = 0;
        loop {
            // Taken out in a statement of its own, since a poll may wake others.
            let next = lock(&self.woken).pop_first();
            let Some(number) = next else { return polls };
            if !self.absent.contains(&number) {
                polls += 1;
                self.poll(number);
            }
        }
    }

    /// So much time passes, a few milliseconds at a time.
    fn pass(&mut self, time: Duration) {
        let step = Duration::from_millis(5);
        for _ in 0..time.as_millis() / step.as_millis() {
            self.runtime.pass(step);
            for number in 0..self.waiters.len() {
                if !self.absent.contains(&number) {
                    self.poll(number);
                }
            }
        }
    }
}

#[test]
fn each_thing_wakes_one_waiter_and_all_are_served_in_order() {
    let (things, runtime) = (Mutex::default(), ManualRuntime::new());
    let mut scene = Scene::new(&things, &runtime);
    for _ in 0..10_000 {
        scene.join();
    }
    let mut polls = 0;
    for _ in 0..10_000 / 50 {
        for _ in 0..50 {
            scene.add();
        }
        polls += scene.run();
    }
    assert_eq!(scene.served, (0..10_000).collect::<Vec<_>>());
    assert_eq!(polls, 10_000);
}

#[test]
fn latecomers_are_served_after_those_who_were_called_and_have_not_come_yet() {
    let (things, runtime) = (Mutex::default(), ManualRuntime::new());
    let mut scene = Scene::new(&things, &runtime);
    scene.join();
    scene.add();
    scene.join();
    assert_eq!(scene.served, [], "what is there is for the first");
    scene.run();
    scene.add();
    scene.run();
    assert_eq!(scene.served, [0, 1]);
}

#[test]
fn waiter_that_leaves_lets_the_next_one_through() {
    let (things, runtime) = (Mutex::default(), ManualRuntime::new());
    let mut scene = Scene::new(&things, &runtime);
    let (first, second) = (scene.join_absent(), scene.join());
    scene.add();
    scene.waiters[first] = None;
    scene.run();
    assert_eq!(scene.served, [second]);
}

#[test]
fn waiting_ends_at_its_bound() {
    let (things, runtime) = (Mutex::default(), ManualRuntime::new());
    let mut scene = Scene::new(&things, &runtime);
    let bound = Duration::from_secs(2);
    let number = scene.join_until(runtime.now() + bound);
    scene.pass(bound - Duration::from_millis(5));
    assert!(scene.waiters[number].is_some());
    runtime.pass(Duration::from_millis(5));
    scene.poll(number);
    assert!(scene.waiters[number].is_none() && scene.served.is_empty());
    assert!(lock(&things).queue.is_empty());
}

#[test]
fn waiter_that_is_not_polled_is_passed_over_and_gets_its_place_back() {
    let (things, runtime) = (Mutex::default(), ManualRuntime::new());
    let mut scene = Scene::new(&things, &runtime);
    let (absent, second, third) = (scene.join_absent(), scene.join(), scene.join());
    scene.add();
    scene.run();
    assert_eq!(scene.served, [], "the first has its time to come");
    scene.pass(3 * PATIENCE);
    assert_eq!(scene.served, [second]);
    scene.add();
    scene.run();
    assert_eq!(scene.served, [second, third], "nobody waits for the first any more");
    let fourth = scene.join();
    scene.come_back(absent);
    scene.add();
    scene.add();
    scene.run();
    assert_eq!(scene.served, [second, third, absent, fourth]);
}

#[test]
fn waiter_that_came_late_is_waited_for_longer() {
    let (things, runtime) = (Mutex::default(), ManualRuntime::new());
    let mut scene = Scene::new(&things, &runtime);
    let (late, second) = (scene.join_absent(), scene.join());
    scene.add();
    scene.pass(3 * PATIENCE);
    assert_eq!(scene.served, [second]);
    scene.poll(late);
    scene.add();
    scene.join();
    scene.pass(2 * PATIENCE);
    assert_eq!(scene.served, [second]);
    scene.come_back(late);
    assert_eq!(scene.served, [second, late]);
}

#[test]
fn many_waiters_that_are_not_polled_are_passed_over_together() {
    let (things, runtime) = (Mutex::default(), ManualRuntime::new());
    let mut scene = Scene::new(&things, &runtime);
    for _ in 0..1_000 {
        scene.join_absent();
    }
    let last = scene.join();
    scene.add();
    scene.pass(8 * PATIENCE);
    assert_eq!(scene.served, [last]);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Polled,
    NotPolled,
    Leaves,
}

proptest! {
    /// Whatever others do who are not polled or go away.
    #[test]
    fn whoever_is_polled_is_served_in_order(
        manners in proptest::collection::vec(
            (prop_oneof![Just(Manner::Polled), Just(Manner::NotPolled), Just(Manner::Leaves)], 0..3_usize),
            1..40,
        ),
    ) {
        let manners = &manners;
        let (things, runtime) = (Mutex::default(), ManualRuntime::new());
        let mut scene = Scene::new(&things, &runtime);
        let mut added = 0;
        for (manner, more) in manners {
            match manner {
                Manner::Polled => scene.join(),
                Manner::NotPolled | Manner::Leaves => scene.join_absent(),
            };
            (0..*more).for_each(|_| scene.add());
            added += more;
            scene.run();
        }
        let of = |manner| (0..manners.len()).filter(move |number| manners[*number].0 == manner);
        of(Manner::Leaves).for_each(|number| scene.waiters[number] = None);
        for _ in of(Manner::Polled) {
            scene.add();
            added += 1;
        }
        scene.pass(Duration::from_secs(5));
        prop_assert_eq!(added, scene.served.len() + lock(&things).free);
        scene.served.retain(|number| manners[*number].0 == Manner::Polled);
        prop_assert_eq!(scene.served, of(Manner::Polled).collect::<Vec<_>>());
    }
}
