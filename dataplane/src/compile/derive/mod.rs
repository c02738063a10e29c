//! Derived relations: what stages need to know of many rows at once, stated as counted facts.

pub(super) mod gateway;
pub(super) mod globals;
pub(super) mod placement;
pub(super) mod routes;
pub(super) mod tunnels;
