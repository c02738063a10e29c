//! Clients of OVN that people have against our controllers: `ovn-nbctl`, `ovn-sbctl`, ovsdbapp as OpenStack uses it, and the
//! messages of libovsdb.
//! They need the packages of `scripts/install-packages test`, but no root.

#![allow(clippy::unwrap_used)] // in helpers of tests too: a panic is the test's failure

mod hypervisor;
mod libovsdb;
mod nbctl;
mod ovsdbapp;
mod sbctl;
mod system;
