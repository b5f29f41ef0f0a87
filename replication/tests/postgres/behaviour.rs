//! What every driver must do, here on servers.

use super::fixture::Servers;
use super::suite::suite;

suite!(Servers);
