//! What a module is: a name, a table of directives, hooks; and where its configuration lives.
//!
//! Answers to `include/http_config.h`. A module keeps its settings in typed [`Slot`]s of a [`ConfVec`]
//! (Apache's `conf_vector`): one vector per virtual host, one per section or `.htaccess` file.

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::config::directive::Directive;
use crate::hooks::Hooks;

/// A module as `LoadModule` names it. All of them are listed in [`crate::modules::ALL`].
pub struct Module {
    /// The identifier in `LoadModule`, e.g. `alias_module`.
    pub name: &'static str,
    /// The file name that `-l`, `<IfModule>` and hook orders use, e.g. `mod_alias.c`.
    pub file: &'static str,
    /// Every directive of the module, one row each.
    pub directives: &'static [Directive],
    /// Registers the module's hooks, filters and providers; called once for each reading of the configuration.
    pub hooks: fn(&mut Hooks),
}

/// The settings that a module keeps for a server or for a directory.
///
/// Fields are `Option`s, so that "not set" needs no second field; `merge` says what a section means on top of another.
pub trait Conf: Any + Send + Sync + Clone + Default {
    /// The settings of `child` (the more specific section) on top of `self`.
    fn merge(&self, child: &Self) -> Self;
}

/// [`Conf`] without its type, as a [`ConfVec`] holds it.
trait AnyConf: Any + Send + Sync {
    fn merge_any(&self, child: &dyn AnyConf) -> Arc<dyn AnyConf>;
    fn merge_onto_default(&self) -> Arc<dyn AnyConf>;
    fn clone_any(&self) -> Arc<dyn AnyConf>;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl<T: Conf> AnyConf for T {
    fn merge_any(&self, child: &dyn AnyConf) -> Arc<dyn AnyConf> {
        match child.as_any().downcast_ref::<T>() {
            Some(child) => Arc::new(self.merge(child)),
            None => self.clone_any(),
        }
    }
    fn merge_onto_default(&self) -> Arc<dyn AnyConf> {
        Arc::new(T::default().merge(self))
    }
    fn clone_any(&self) -> Arc<dyn AnyConf> {
        Arc::new(self.clone())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// A module's place in every [`ConfVec`], and the type of what lies there: `static DIR: Slot<DirConf> = Slot::new();`
pub struct Slot<T> {
    /// The place plus one; 0 until first used.
    place: AtomicUsize,
    default: OnceLock<T>,
}

static PLACES: AtomicUsize = AtomicUsize::new(0);

impl<T: Conf> Slot<T> {
    /// A slot whose place is given at first use.
    pub const fn new() -> Slot<T> {
        Slot { place: AtomicUsize::new(0), default: OnceLock::new() }
    }

    fn place(&self) -> usize {
        match self.place.load(Ordering::Acquire) {
            0 => {
                let new = PLACES.fetch_add(1, Ordering::AcqRel) + 1;
                match self.place.compare_exchange(0, new, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => new - 1,
                    Err(earlier) => earlier - 1,
                }
            }
            place => place - 1,
        }
    }

    fn default(&self) -> &T {
        self.default.get_or_init(T::default)
    }
}

impl<T: Conf> Default for Slot<T> {
    fn default() -> Self {
        Slot::new()
    }
}

/// The settings of all modules for one server, section or `.htaccess` file.
#[derive(Clone, Default)]
pub struct ConfVec {
    slots: Vec<Option<Arc<dyn AnyConf>>>,
}

impl ConfVec {
    /// A vector in which nothing is set.
    pub const fn new() -> ConfVec {
        ConfVec { slots: Vec::new() }
    }

    /// What is set in `slot`, or the module's defaults.
    #[inline]
    pub fn get<'a, T: Conf>(&'a self, slot: &'a Slot<T>) -> &'a T {
        match self.slots.get(slot.place()) {
            Some(Some(conf)) => (**conf).as_any().downcast_ref::<T>().unwrap_or_else(|| slot.default()),
            _ => slot.default(),
        }
    }

    /// True when a directive has set something in `slot`.
    pub fn has<T: Conf>(&self, slot: &Slot<T>) -> bool {
        matches!(self.slots.get(slot.place()), Some(Some(_)))
    }

    /// The settings in `slot`, to be changed by a directive.
    pub fn get_mut<T: Conf>(&mut self, slot: &Slot<T>) -> &mut T {
        let place = slot.place();
        if self.slots.len() <= place {
            self.slots.resize(place + 1, None);
        }
        let entry = &mut self.slots[place];
        let shared = entry.get_or_insert_with(|| Arc::new(T::default()));
        if Arc::get_mut(shared).is_none() {
            *shared = (**shared).clone_any();
        }
        Arc::get_mut(shared)
            .and_then(|conf| conf.as_any_mut().downcast_mut::<T>())
            .expect("a slot's place belongs to one type")
    }

    /// Whether the two are one: neither has settings that the other has not from the same place.
    pub fn is(&self, other: &ConfVec) -> bool {
        let most = self.slots.len().max(other.slots.len());
        (0..most).all(|place| match (self.slots.get(place), other.slots.get(place)) {
            (Some(Some(mine)), Some(Some(theirs))) => Arc::ptr_eq(mine, theirs),
            (mine, theirs) => mine.is_none_or(Option::is_none) && theirs.is_none_or(Option::is_none),
        })
    }

    /// `child` on top of a server's settings, module by module: in Apache every module has some there, if only its
    /// defaults, and a merge with those can drop settings of the child.
    pub fn merge(&self, child: &ConfVec) -> ConfVec {
        self.merge_by(child, |theirs| theirs.merge_onto_default())
    }

    /// A section's settings on top of those of another one, which has settings only of modules that are named in it.
    pub fn join(&self, child: &ConfVec) -> ConfVec {
        self.merge_by(child, Arc::clone)
    }

    fn merge_by(&self, child: &ConfVec, alone: impl Fn(&Arc<dyn AnyConf>) -> Arc<dyn AnyConf>) -> ConfVec {
        let mut slots = self.slots.clone();
        if slots.len() < child.slots.len() {
            slots.resize(child.slots.len(), None);
        }
        for (mine, theirs) in slots.iter_mut().zip(&child.slots) {
            if let Some(theirs) = theirs {
                *mine = Some(match mine.as_ref() {
                    Some(base) => base.merge_any(&**theirs),
                    None => alone(theirs),
                });
            }
        }
        ConfVec { slots }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Dummy {
        a: Option<u32>,
        b: Option<u32>,
    }
    impl Conf for Dummy {
        fn merge(&self, child: &Self) -> Self {
            Dummy { a: child.a.or(self.a), b: child.b.or(self.b) }
        }
    }
    static FIRST: Slot<Dummy> = Slot::new();
    static SECOND: Slot<Dummy> = Slot::new();

    #[test]
    fn slots_are_apart_and_merge() {
        let mut base = ConfVec::new();
        base.get_mut(&FIRST).a = Some(1);
        base.get_mut(&FIRST).b = Some(2);
        let mut child = ConfVec::new();
        child.get_mut(&FIRST).a = Some(3);
        child.get_mut(&SECOND).b = Some(4);
        let merged = base.merge(&child);
        assert_eq!(merged.get(&FIRST).a, Some(3));
        assert_eq!(merged.get(&FIRST).b, Some(2));
        assert_eq!(merged.get(&SECOND).b, Some(4));
        assert_eq!(base.get(&FIRST).a, Some(1));
        assert!(!base.has(&SECOND));
    }

    #[test]
    fn a_shared_conf_is_copied_before_it_changes() {
        let mut one = ConfVec::new();
        one.get_mut(&FIRST).a = Some(1);
        let two = one.clone();
        one.get_mut(&FIRST).a = Some(9);
        assert_eq!(two.get(&FIRST).a, Some(1));
    }
}
