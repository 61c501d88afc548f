//! etcd v3 messages and services.
