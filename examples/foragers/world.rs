//! The world and its rules: bushes that ripen, foragers that see a few metres, cravings. No graphics, no memory.

use bevy::math::Vec2;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Kinds of bushes.
pub const KINDS: [&str; 6] = ["berry", "nut", "plum", "fig", "herb", "root"];
/// Ticks a second.
pub const TICKS_A_SECOND: f32 = 10.0;

/// The rules, in metres and seconds.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Side of the square world.
    pub side: f32,
    /// Bushes of each kind, placed at random at least `spacing` apart.
    pub bushes_a_kind: usize,
    /// Least distance of two bushes.
    pub spacing: f32,
    /// Foragers that share the world.
    pub foragers: usize,
    /// How far a forager sees.
    pub sight: f32,
    /// Standard deviation of the place at which a forager believes to see a bush.
    pub blur: f32,
    /// Walking speed.
    pub speed: f32,
    /// From how near a bush can be eaten.
    pub reach: f32,
    /// Mean time from a meal to the next craving (exponential).
    pub content: f32,
    /// Mean time that an eaten bush is bare (exponential).
    pub ripening: f32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            side: 240.0,
            bushes_a_kind: 4,
            spacing: 6.0,
            foragers: 4,
            sight: 8.0,
            blur: 0.3,
            speed: 1.5,
            reach: 0.7,
            content: 20.0,
            ripening: 300.0,
        }
    }
}

/// A bush.
#[derive(Debug, Clone)]
pub struct Bush {
    /// Where it stands.
    pub place: Vec2,
    /// Index into [`KINDS`].
    pub kind: usize,
    /// The tick from which on it is ripe.
    pub ripe_from: u64,
}

/// What a forager sees in a tick: the bush nearest to it, if one is in sight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sighting {
    /// Where it seems to stand.
    pub place: Vec2,
    /// Index into [`KINDS`].
    pub kind: usize,
    /// 1 ripe, 0 bare.
    pub ripe: f32,
}

/// A sighting as it is remembered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Remembered {
    /// Where it was.
    pub place: Vec2,
    /// How ripe it was, 0 to 1.
    pub ripe: f32,
    /// How long ago, in seconds.
    pub age: f32,
    /// How sure the memory is, 0 to 1.
    pub confidence: f32,
}

/// The memories that are sure enough to act on, of each place the newest.
pub fn newest_of_each_place(remembered: &[Remembered]) -> impl Iterator<Item = &Remembered> {
    let sure = |memory: &&Remembered| memory.confidence >= LEAST_CONFIDENCE;
    let outdated = move |memory: &Remembered| {
        let newer = |other: &Remembered| other.age < memory.age && other.place.distance(memory.place) < SAME_PLACE;
        remembered.iter().filter(sure).any(newer)
    };
    remembered.iter().filter(sure).filter(move |memory| !outdated(memory))
}

/// A forager.
#[derive(Debug, Clone)]
pub struct Forager {
    /// Where it is.
    pub place: Vec2,
    /// Where it was a tick ago.
    pub before: Vec2,
    /// What it craves, an index into [`KINDS`].
    pub craving: Option<usize>,
    /// Meals eaten.
    pub meals: u32,
    goal: Goal,
    next_craving: u64,
    /// Places where what was remembered was not found, and when.
    disappointments: Vec<(Vec2, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Goal {
    /// A place drawn at random: to explore, or for want of a better idea.
    Wander(Vec2),
    /// A remembered place.
    Remembered(Vec2),
}

/// Bushes and foragers.
#[derive(Debug, Clone)]
pub struct World {
    /// The rules.
    pub rules: Rules,
    /// The present tick.
    pub tick: u64,
    /// The bushes.
    pub bushes: Vec<Bush>,
    /// The foragers.
    pub foragers: Vec<Forager>,
    /// The bushes in each square as wide as a forager sees, row by row.
    squares: Vec<Vec<usize>>,
    rng: ChaCha8Rng,
}

/// A forager thinks about where to go this often, in ticks.
const THINK_EVERY: u64 = 10;
/// Memories less sure than this are not acted on.
const LEAST_CONFIDENCE: f32 = 0.3;
/// Places nearer than this are one place.
pub const SAME_PLACE: f32 = 3.0;
/// For how long a disappointment counts, in seconds.
const DISAPPOINTED: f32 = 60.0;
/// The share of bushes that is ripe when nothing is known.
const RIPE_SHARE: f32 = 0.6;

fn squares_a_side(rules: &Rules) -> usize {
    (rules.side / rules.sight).ceil() as usize
}

impl World {
    /// A world of the given seed.
    pub fn new(rules: Rules, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut bushes: Vec<Bush> = vec![];
        while bushes.len() < KINDS.len() * rules.bushes_a_kind {
            let place = Vec2::new(rng.random_range(0.0..rules.side), rng.random_range(0.0..rules.side));
            if bushes.iter().all(|bush| bush.place.distance(place) >= rules.spacing) {
                bushes.push(Bush { place, kind: bushes.len() % KINDS.len(), ripe_from: 0 });
            }
        }
        let squares = vec![vec![]; squares_a_side(&rules).pow(2)];
        let mut world = Self { rules, tick: 0, bushes, foragers: vec![], squares, rng };
        for at in 0..world.bushes.len() {
            let (x, y) = world.square(world.bushes[at].place);
            world.squares[y * squares_a_side(&rules) + x].push(at);
        }
        for _ in 0..rules.foragers {
            let place = world.somewhere();
            let goal = Goal::Wander(world.somewhere());
            let next_craving = world.exponential(rules.content);
            let disappointments = vec![];
            let forager =
                Forager { place, before: place, craving: None, meals: 0, goal, next_craving, disappointments };
            world.foragers.push(forager);
        }
        world
    }

    fn square(&self, place: Vec2) -> (usize, usize) {
        let at = |coordinate: f32| ((coordinate / self.rules.sight) as usize).min(squares_a_side(&self.rules) - 1);
        (at(place.x), at(place.y))
    }

    /// The bushes that may be in sight from `place`, in the order of their numbers within each square.
    fn bushes_around(&self, place: Vec2) -> impl Iterator<Item = usize> {
        let ((x, y), side) = (self.square(place), squares_a_side(&self.rules));
        let around = move |at: usize| at.saturating_sub(1)..=(at + 1).min(side - 1);
        around(y).flat_map(move |y| around(x).flat_map(move |x| self.squares[y * side + x].iter().copied()))
    }

    /// Whether a bush is ripe.
    pub fn is_ripe(&self, bush: &Bush) -> bool {
        bush.ripe_from <= self.tick
    }

    /// What a forager sees now.
    pub fn see(&mut self, forager: usize) -> Option<Sighting> {
        let place = self.foragers[forager].place;
        let around = self.bushes_around(place).map(|bush| &self.bushes[bush]);
        let nearest = around.min_by(|a, b| a.place.distance(place).total_cmp(&b.place.distance(place)))?;
        if nearest.place.distance(place) > self.rules.sight {
            return None;
        }
        let (kind, ripe, true_place) = (nearest.kind, f32::from(u8::from(self.is_ripe(nearest))), nearest.place);
        let blur = Vec2::new(self.normal(), self.normal()) * self.rules.blur;
        Some(Sighting { place: true_place + blur, kind, ripe })
    }

    /// Whether a forager would like to know where what it craves was seen.
    pub fn wonders(&self, forager: usize) -> Option<usize> {
        let due = (self.tick + forager as u64).is_multiple_of(THINK_EVERY);
        self.foragers[forager].craving.filter(|_| due)
    }

    /// Moves a forager by one tick. `remembered` is what its memory says of the kind that it craves; `None` when it
    /// did not ask.
    pub fn act(&mut self, forager: usize, remembered: Option<&[Remembered]>) {
        if self.foragers[forager].craving.is_none() && self.foragers[forager].next_craving <= self.tick {
            self.foragers[forager].craving = Some(self.rng.random_range(0..KINDS.len()));
        }
        let target = match self.foragers[forager].craving {
            Some(kind) => match self.ripe_in_sight(forager, kind) {
                Some(bush) => self.approach(forager, bush),
                None => {
                    if let Some(remembered) = remembered {
                        self.think(forager, remembered);
                    }
                    self.follow_goal(forager)
                }
            },
            None => self.follow_goal(forager),
        };
        let step = self.rules.speed / TICKS_A_SECOND;
        let me = &mut self.foragers[forager];
        me.before = me.place;
        me.place = me.place.move_towards(target, step);
    }

    /// Ends the tick.
    pub fn end_tick(&mut self) {
        self.tick += 1;
    }

    fn ripe_in_sight(&self, forager: usize, kind: usize) -> Option<usize> {
        let place = self.foragers[forager].place;
        let around = self.bushes_around(place).map(|bush| (bush, &self.bushes[bush]));
        let wanted = around.filter(|(_, bush)| bush.kind == kind && self.is_ripe(bush));
        let seen =
            wanted.map(|(at, bush)| (at, bush.place.distance(place))).filter(|(_, far)| *far <= self.rules.sight);
        seen.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
    }

    /// Walks to a bush in sight, and eats it when it is in reach.
    fn approach(&mut self, forager: usize, bush: usize) -> Vec2 {
        let place = self.bushes[bush].place;
        if place.distance(self.foragers[forager].place) <= self.rules.reach {
            self.bushes[bush].ripe_from = self.tick + 1 + self.exponential(self.rules.ripening);
            let next_craving = self.tick + self.exponential(self.rules.content);
            let goal = Goal::Wander(self.somewhere());
            let me = &mut self.foragers[forager];
            (me.craving, me.next_craving, me.goal) = (None, next_craving, goal);
            me.meals += 1;
        }
        place
    }

    /// Chooses the remembered place with the most ripe bushes to expect for the time that it takes.
    fn think(&mut self, forager: usize, remembered: &[Remembered]) {
        let (tick, rules) = (self.tick, self.rules);
        let me = &mut self.foragers[forager];
        let recent = |since: u64| (tick - since) as f32 / TICKS_A_SECOND < DISAPPOINTED;
        me.disappointments.retain(|(_, since)| recent(*since));
        let disappointing =
            |place: Vec2| me.disappointments.iter().any(|(known, _)| known.distance(place) < SAME_PLACE);
        let worth = |candidate: &Remembered| {
            // What was seen holds for about the time that a bush needs to ripen; then the average does.
            let still = (-candidate.age / rules.ripening).exp();
            let ripe = RIPE_SHARE + (candidate.ripe - RIPE_SHARE) * still;
            let walk = candidate.place.distance(me.place) / rules.speed;
            candidate.confidence * ripe / (walk + 5.0)
        };
        let candidates = newest_of_each_place(remembered).filter(|candidate| !disappointing(candidate.place));
        // A bush seen bare is worth another look after the time that it needs.
        let candidates = candidates.filter(|candidate| candidate.ripe > 0.5 || candidate.age > rules.ripening);
        let best = candidates.max_by(|a, b| worth(a).total_cmp(&worth(b))).map(|candidate| candidate.place);
        if let Some(place) = best {
            me.goal = Goal::Remembered(place);
        }
    }

    fn follow_goal(&mut self, forager: usize) -> Vec2 {
        let place = self.foragers[forager].place;
        match self.foragers[forager].goal {
            Goal::Wander(target) if target.distance(place) < 1.0 => {
                self.foragers[forager].goal = Goal::Wander(self.somewhere());
            }
            Goal::Remembered(target) if target.distance(place) < 1.0 => {
                self.foragers[forager].disappointments.push((target, self.tick));
                self.foragers[forager].goal = Goal::Wander(self.somewhere());
            }
            _ => {}
        }
        match self.foragers[forager].goal {
            Goal::Wander(target) | Goal::Remembered(target) => target,
        }
    }

    fn somewhere(&mut self) -> Vec2 {
        Vec2::new(self.rng.random_range(0.0..self.rules.side), self.rng.random_range(0.0..self.rules.side))
    }

    /// A waiting time in ticks with a mean in seconds.
    fn exponential(&mut self, mean: f32) -> u64 {
        let uniform: f32 = self.rng.random();
        (-(1.0 - uniform).ln() * mean * TICKS_A_SECOND) as u64
    }

    fn normal(&mut self) -> f32 {
        let (u, v): (f32, f32) = (self.rng.random(), self.rng.random());
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f32::consts::TAU * v).cos()
    }
}
