//! Virtual time, and tasks that run on it: one at a time, the next one drawn by lot. Time passes only when nobody can go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use kafka_external_access::seams::Clock;

use crate::chance::Chance;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whose tasks end, or stand still, together. The world outlives everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    World,
    Replica(usize),
}

#[derive(Default)]
struct Timers {
    now: Duration,
    serial: u64,
    waiting: BTreeMap<(Duration, u64), Waker>,
}

/// The time that all machines share.
#[derive(Clone, Default)]
pub struct Time(Arc<Mutex<Timers>>);

impl Time {
    fn lock(&self) -> MutexGuard<'_, Timers> {
        self.0.lock().expect("not poisoned")
    }

    pub fn now(&self) -> Duration {
        self.lock().now
    }

    /// The wall clock of a machine whose clock is right.
    pub fn wall(&self) -> Timestamp {
        Timestamp::from_second(1_790_000_000).expect("a timestamp") + self.now()
    }

    pub fn sleep(&self, period: Duration) -> Sleep {
        Sleep { time: self.clone(), due: self.now() + period, key: None }
    }
}

/// Ends when its time has come.
pub struct Sleep {
    time: Time,
    due: Duration,
    key: Option<(Duration, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let time = self.time.clone();
        let mut timers = time.lock();
        if let Some(key) = self.key.take() {
            timers.waiting.remove(&key);
        }
        if timers.now >= self.due {
            return Poll::Ready(());
        }
        timers.serial += 1;
        let key = (self.due, timers.serial);
        timers.waiting.insert(key, context.waker().clone());
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.time.lock().waiting.remove(&key);
        }
    }
}

/// Machines run for longer than any interval when a schedule begins.
const UP_FOR: Duration = Duration::from_secs(86_400);

/// The clocks of one machine. Its wall clock may be wrong, and may jump.
pub struct MachineClock {
    pub time: Time,
    wrong_by: AtomicI64,
}

impl MachineClock {
    pub fn new(time: Time) -> Self {
        Self { time, wrong_by: AtomicI64::new(0) }
    }

    pub fn jump(&self, seconds: i64) {
        self.wrong_by.fetch_add(seconds, Ordering::Relaxed);
    }

    pub fn set_right(&self) {
        self.wrong_by.store(0, Ordering::Relaxed);
    }

    fn wrong_by(&self) -> SignedDuration {
        SignedDuration::from_secs(self.wrong_by.load(Ordering::Relaxed))
    }
}

/// The clocks as a process sees them that was started when they were wrong by so much.
pub struct ProcessClock {
    machine: Arc<MachineClock>,
    wrong_at_start: SignedDuration,
}

impl ProcessClock {
    pub fn new(machine: Arc<MachineClock>) -> Self {
        Self { wrong_at_start: machine.wrong_by(), machine }
    }
}

#[async_trait]
impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        self.machine.time.wall() + self.machine.wrong_by()
    }
    fn steady(&self) -> Timestamp {
        self.machine.time.wall() + self.wrong_at_start
    }
    fn monotonic(&self) -> Duration {
        UP_FOR + self.machine.time.now()
    }
    async fn sleep(&self, period: Duration) {
        self.machine.time.sleep(period).await;
    }
}

#[derive(Default)]
struct Ready(Mutex<BTreeSet<u64>>);

struct TaskWaker {
    id: u64,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.0.lock().expect("not poisoned").insert(self.id);
    }
}

#[derive(Default)]
struct Tasks {
    serial: u64,
    running: BTreeMap<u64, (Group, Option<Task>)>,
    /// Processes that are stopped (SIGSTOP), until when.
    stopped: BTreeMap<Group, Duration>,
}

/// Runs tasks in virtual time.
#[derive(Clone)]
pub struct Executor {
    pub time: Time,
    tasks: Arc<Mutex<Tasks>>,
    ready: Arc<Ready>,
    chance: Chance,
}

impl Executor {
    pub fn new(chance: Chance) -> Self {
        Self { time: Time::default(), tasks: Arc::default(), ready: Arc::default(), chance }
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().expect("not poisoned")
    }

    pub fn spawn(&self, group: Group, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        tasks.serial += 1;
        let id = tasks.serial;
        tasks.running.insert(id, (group, Some(Box::pin(task))));
        self.ready.0.lock().expect("not poisoned").insert(id);
    }

    /// All tasks of the group end where they are.
    pub fn kill(&self, group: Group) {
        let dead: Vec<Option<Task>> = {
            let mut tasks = self.tasks();
            tasks.stopped.remove(&group);
            let ids: Vec<u64> =
                tasks.running.iter().filter(|(_, (of, _))| *of == group).map(|(id, _)| *id).collect();
            ids.iter().filter_map(|id| tasks.running.remove(id)).map(|(_, task)| task).collect()
        };
        drop(dead);
    }

    /// Everything ends.
    pub fn end(&self) {
        let all = std::mem::take(&mut self.tasks().running);
        drop(all);
    }

    /// The process stands still for so long; its clocks go on.
    pub fn stop(&self, group: Group, period: Duration) {
        let until = self.time.now() + period;
        self.tasks().stopped.insert(group, until);
    }

    /// Takes one step of one task. False: nobody can go on before `end`, and that is the time now.
    pub fn step(&self, end: Duration) -> bool {
        let Some(id) = self.draw() else { return self.pass(end) };
        let taken = self.tasks().running.get_mut(&id).and_then(|(_, task)| task.take());
        let Some(mut task) = taken else { return true };
        let waker = Waker::from(Arc::new(TaskWaker { id, ready: self.ready.clone() }));
        let outcome = task.as_mut().poll(&mut Context::from_waker(&waker));
        let mut tasks = self.tasks();
        match outcome {
            Poll::Ready(()) => drop(tasks.running.remove(&id)),
            Poll::Pending => {
                if let Some((_, place)) = tasks.running.get_mut(&id) {
                    *place = Some(task);
                }
            }
        }
        true
    }

    fn draw(&self) -> Option<u64> {
        let tasks = self.tasks();
        let now = self.time.now();
        let mut ready = self.ready.0.lock().expect("not poisoned");
        ready.retain(|id| tasks.running.contains_key(id));
        let moving = |id: &&u64| {
            let group = tasks.running[*id].0;
            tasks.stopped.get(&group).is_none_or(|until| *until <= now)
        };
        let count = ready.iter().filter(moving).count();
        if count == 0 {
            return None;
        }
        let nth = if count == 1 { 0 } else { self.chance.index(count) };
        let id = *ready.iter().filter(moving).nth(nth)?;
        ready.remove(&id);
        Some(id)
    }

    fn pass(&self, end: Duration) -> bool {
        let now = self.time.now();
        let wakes = self.tasks().stopped.values().copied().filter(|until| *until > now).min();
        let mut timers = self.time.lock();
        let timer = timers.waiting.first_key_value().map(|((due, _), _)| *due);
        let next = [timer, wakes].into_iter().flatten().min().unwrap_or(end);
        if next >= end {
            timers.now = end.max(timers.now);
            return false;
        }
        timers.now = next.max(timers.now);
        let now = timers.now;
        let mut due = Vec::new();
        while let Some(entry) = timers.waiting.first_entry().filter(|entry| entry.key().0 <= now) {
            due.push(entry.remove());
        }
        drop(timers);
        due.into_iter().for_each(Waker::wake);
        true
    }
}
