//! One contract for the API server, kept by the real one through the shipped client, and by the simulated one that the
//! road and the simulation run on. The real half needs the lab: `cargo lab up`.

#[path = "../road/kubernetes.rs"]
mod kubernetes;
mod real;
mod simulated;
#[macro_use]
mod suite;
mod watching;

macro_rules! both_keep {
    ($($subject:ident :: $sentence:ident)*) => {
        mod on_the_real_one {
            $(#[test]
            fn $sentence() {
                crate::real::in_lab(async |world| crate::suite::$subject::$sentence(world).await);
            })*
        }

        mod on_the_simulated_one {
            $(#[test]
            fn $sentence() {
                crate::simulated::run(async |world| crate::suite::$subject::$sentence(world).await);
            })*
        }
    };
}

every_sentence!(both_keep);
