//! The contract of the cloud, kept by Keystone and Neutron of the lab: `cargo lab up --only cloud` is enough.

#[path = "../cloud_contract/suite.rs"]
#[macro_use]
mod suite;
mod credentials;
mod world;

macro_rules! neutron_keeps {
    ($($sentence:ident)*) => {$(
        #[test]
        fn $sentence() {
            world::in_lab(async |world| suite::$sentence(world).await);
        }
    )*};
}

every_sentence!(neutron_keeps);
