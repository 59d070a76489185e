//! A memcached server that stores what it sends.
