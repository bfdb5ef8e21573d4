//! The connections of a client that callers use, for what concerns all of them.

use std::sync::{Arc, Weak};

use crate::conn::link::Link;
use crate::sync::{Mutex, lock};

/// All open connections to masters and replicas, whatever they are used for. It keeps none of them open.
#[derive(Debug, Default)]
pub(crate) struct OpenLinks(Mutex<Vec<Weak<Link>>>);

impl OpenLinks {
    pub(crate) fn add(&self, link: &Arc<Link>) {
        let mut links = lock(&self.0);
        if links.len() == links.capacity() {
            links.retain(|link| link.strong_count() > 0);
        }
        links.push(Arc::downgrade(link));
    }

    pub(crate) fn all(&self) -> Vec<Arc<Link>> {
        lock(&self.0).iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::address::Address;
    use crate::conn::link::Bounds;
    use crate::generation::Generation;

    #[test]
    fn ended_connections_are_forgotten() {
        let links = OpenLinks::default();
        let link = || {
            let bounds = Bounds { commands: 1, bytes: 1 };
            Arc::new(Link::new(Generation::default(), Address::tcp("h", 1), Instant::now(), bounds))
        };
        let kept = link();
        links.add(&kept);
        (0..1000).for_each(|_| links.add(&link()));
        assert_eq!(links.all().len(), 1);
        assert!(lock(&links.0).capacity() < 64);
    }
}
