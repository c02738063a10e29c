//! Clients of OVN that people have against our controllers: `ovn-nbctl`, ovsdbapp as OpenStack uses it, and the
//! messages of libovsdb.
//! They need the packages of `scripts/install-packages test`, but no root.

mod libovsdb;
mod nbctl;
mod ovsdbapp;
mod system;
