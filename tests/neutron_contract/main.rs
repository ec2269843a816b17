//! The contract of the cloud, kept by Keystone and Neutron of the lab: `cargo lab up --only cloud` is enough.

#[path = "../cloud_contract/suite/mod.rs"]
#[macro_use]
mod suite;
mod credentials;
mod facts;
mod world;

macro_rules! neutron_keeps {
    ($($subject:ident :: $sentence:ident)*) => {$(
        #[test]
        fn $sentence() {
            world::in_lab(async |world| suite::$subject::$sentence(world).await);
        }
    )*};
}

every_sentence!(neutron_keeps);
