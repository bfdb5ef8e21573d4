use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Wake;

use proptest::prelude::*;

use super::*;
use crate::manual_runtime::ManualRuntime;

const LONG: Duration = Duration::from_secs(3600);

/// The resources of a test.
#[derive(Debug, Default)]
struct Resources {
    free: usize,
    queue: WaitQueue,
}

impl Resources {
    fn find(&mut self) -> (&mut WaitQueue, usize) {
        (&mut self.queue, self.free)
    }
}

/// The waiters whose wakers were called.
type Woken = Arc<Mutex<BTreeSet<usize>>>;

/// Wakes one waiter.
struct TestWaker {
    number: usize,
    woken: Woken,
}

impl Wake for TestWaker {
    fn wake(self: Arc<Self>) {
        lock(&self.woken).insert(self.number);
    }
}

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<(), Elapsed>> + 'a>>;

/// Waiters for the same resources.
struct Scene<'a> {
    resources: &'a Mutex<Resources>,
    runtime: &'a ManualRuntime,
    waiters: Vec<Option<Waiting<'a>>>,
    woken: Woken,
    /// The waiters that are not polled.
    absent: BTreeSet<usize>,
    /// The waiters that got a resource, in this order.
    served: Vec<usize>,
}

impl<'a> Scene<'a> {
    fn new(resources: &'a Mutex<Resources>, runtime: &'a ManualRuntime) -> Self {
        let (woken, absent) = (Woken::default(), BTreeSet::new());
        Self { resources, runtime, waiters: Vec::new(), woken, absent, served: Vec::new() }
    }

    /// Adds a waiter that is polled once, and not again before it comes back.
    fn join_absent(&mut self) -> usize {
        let number = self.join();
        self.absent.insert(number);
        number
    }

    fn come_back(&mut self, number: usize) {
        self.absent.remove(&number);
        self.poll(number);
    }

    /// Adds a waiter that is polled once.
    fn join(&mut self) -> usize {
        self.join_until(self.runtime.now() + LONG)
    }

    fn join_until(&mut self, bound: Instant) -> usize {
        let (resources, runtime) = (self.resources, self.runtime);
        self.waiters.push(Some(Box::pin(async move {
            let mut ticket = Ticket::new(resources, Resources::find);
            let take = |resources: &mut Resources, is_served: bool, _: &mut Context<'_>| {
                is_served.then(|| resources.free -= 1)
            };
            ticket.wait(runtime, bound, take).await
        })));
        let number = self.waiters.len() - 1;
        self.poll(number);
        number
    }

    fn poll(&mut self, number: usize) {
        let Some(waiter) = &mut self.waiters[number] else { return };
        let waker = Waker::from(Arc::new(TestWaker { number, woken: Arc::clone(&self.woken) }));
        if let Poll::Ready(ended) = waiter.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.waiters[number] = None;
            self.served.extend(ended.is_ok().then_some(number));
        }
    }

    /// Makes one more resource available.
    fn add(&self) {
        let mut resources = lock(self.resources);
        resources.free += 1;
        let (queue, available) = resources.find();
        let next = queue.notify_one(available);
        drop(resources);
        next.into_iter().for_each(wake);
    }

    /// Polls the woken waiters until there is none. Returns the number of polls.
    fn run(&mut self) -> usize {
        let mut polls = 0;
        loop {
            // A separate statement, since a poll may wake others.
            let next = lock(&self.woken).pop_first();
            let Some(number) = next else { return polls };
            if !self.absent.contains(&number) {
                polls += 1;
                self.poll(number);
            }
        }
    }

    /// Advances the clock, a few milliseconds at a time.
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
fn each_resource_wakes_one_waiter_in_order() {
    let (resources, runtime) = (Mutex::default(), ManualRuntime::new());
    let mut scene = Scene::new(&resources, &runtime);
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
fn newcomer_does_not_overtake_woken_waiter() {
    let (resources, runtime) = (Mutex::default(), ManualRuntime::new());
    let mut scene = Scene::new(&resources, &runtime);
    scene.join();
    scene.add();
    scene.join();
    assert_eq!(scene.served, [], "the resource is for the first");
    scene.run();
    scene.add();
    scene.run();
    assert_eq!(scene.served, [0, 1]);
}

#[test]
fn leaving_waiter_wakes_next() {
    let (resources, runtime) = (Mutex::default(), ManualRuntime::new());
    let mut scene = Scene::new(&resources, &runtime);
    let (first, second) = (scene.join_absent(), scene.join());
    scene.add();
    scene.waiters[first] = None;
    scene.run();
    assert_eq!(scene.served, [second]);
}

#[test]
fn wait_ends_at_bound() {
    let (resources, runtime) = (Mutex::default(), ManualRuntime::new());
    let mut scene = Scene::new(&resources, &runtime);
    let bound = Duration::from_secs(2);
    let number = scene.join_until(runtime.now() + bound);
    scene.pass(bound - Duration::from_millis(5));
    assert!(scene.waiters[number].is_some());
    runtime.pass(Duration::from_millis(5));
    scene.poll(number);
    assert!(scene.waiters[number].is_none() && scene.served.is_empty());
    assert!(lock(&resources).queue.is_empty());
}

#[test]
fn unpolled_waiter_skipped_and_gets_place_back() {
    let (resources, runtime) = (Mutex::default(), ManualRuntime::new());
    let mut scene = Scene::new(&resources, &runtime);
    let (absent, second, third) = (scene.join_absent(), scene.join(), scene.join());
    scene.add();
    scene.run();
    assert_eq!(scene.served, [], "the first has time to be polled");
    scene.pass(3 * GRACE);
    assert_eq!(scene.served, [second]);
    scene.add();
    scene.run();
    assert_eq!(scene.served, [second, third], "nobody waits for the first any longer");
    let fourth = scene.join();
    scene.come_back(absent);
    scene.add();
    scene.add();
    scene.run();
    assert_eq!(scene.served, [second, third, absent, fourth]);
}

#[test]
fn late_waiter_gets_more_time() {
    let (resources, runtime) = (Mutex::default(), ManualRuntime::new());
    let mut scene = Scene::new(&resources, &runtime);
    let (late, second) = (scene.join_absent(), scene.join());
    scene.add();
    scene.pass(3 * GRACE);
    assert_eq!(scene.served, [second]);
    scene.poll(late);
    scene.add();
    scene.join();
    scene.pass(2 * GRACE);
    assert_eq!(scene.served, [second]);
    scene.come_back(late);
    assert_eq!(scene.served, [second, late]);
}

#[test]
fn many_unpolled_waiters_skipped_together() {
    let (resources, runtime) = (Mutex::default(), ManualRuntime::new());
    let mut scene = Scene::new(&resources, &runtime);
    for _ in 0..1_000 {
        scene.join_absent();
    }
    let last = scene.join();
    scene.add();
    scene.pass(8 * GRACE);
    assert_eq!(scene.served, [last]);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Polled,
    NotPolled,
    Leaves,
}

proptest! {
    /// Polled waiters are served in order, whatever others do that are not polled or leave.
    #[test]
    fn polled_waiters_served_in_order(
        manners in proptest::collection::vec(
            (prop_oneof![Just(Manner::Polled), Just(Manner::NotPolled), Just(Manner::Leaves)], 0..3_usize),
            1..40,
        ),
    ) {
        let manners = &manners;
        let (resources, runtime) = (Mutex::default(), ManualRuntime::new());
        let mut scene = Scene::new(&resources, &runtime);
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
        prop_assert_eq!(added, scene.served.len() + lock(&resources).free);
        scene.served.retain(|number| manners[*number].0 == Manner::Polled);
        prop_assert_eq!(scene.served, of(Manner::Polled).collect::<Vec<_>>());
    }
}
