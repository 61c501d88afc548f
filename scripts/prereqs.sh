#!/usr/bin/env bash
# Checks for what a build needs beside the Rust toolchain: a C++ compiler for RocksDB, libclang for its bindings.
# Missing packages are installed where that is possible without asking (root on Debian or Ubuntu), otherwise the one
# command that installs them is printed. Prints nothing when all is there.
set -euo pipefail

has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    ldconfig -p 2>/dev/null | grep -q 'libclang[-.]' && return 0
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' | grep -qv 'libclang-cpp' && return 0
    return 1
}

# bindgen needs the compiler's own headers (stddef.h) beside the library.
has_clang_headers() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null || compgen -G '/usr/lib/clang/*/include/stddef.h' >/dev/null
}

missing=()
command -v cargo >/dev/null || { echo "flaredb: cargo is missing; install Rust from https://rustup.rs" >&2; exit 1; }
command -v g++ >/dev/null || missing+=(g++)
has_libclang && has_clang_headers || missing+=(libclang-dev)
# `prereqs.sh test`: the compatibility test drives an unmodified etcdctl.
if [ "${1:-build}" = test ] && [ "${FLAREDB_SKIP_ETCDCTL:-0}" != 1 ] && [ -z "${ETCDCTL:-}" ] && ! command -v etcdctl >/dev/null; then
    missing+=(etcd-client)
fi
# The soak's links between real servers live in network namespaces; without these tools it goes without network faults.
if [ "${1:-build}" = test ] && [ "${FLAREDB_SKIP_NAMESPACES:-0}" != 1 ] && [ "$(id -u)" -eq 0 ]; then
    command -v ip >/dev/null || missing+=(iproute2)
    command -v iptables >/dev/null || missing+=(iptables)
fi
[ "${#missing[@]}" -eq 0 ] && exit 0

if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    echo "flaredb: installing ${missing[*]} (for RocksDB, its bindings and the tests)" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
elif command -v apt-get >/dev/null; then
    echo "flaredb: missing ${missing[*]}:  sudo apt-get install ${missing[*]}" >&2
    exit 1
else
    echo "flaredb: the build needs a C++20 compiler and libclang (missing: ${missing[*]}); install them with your package manager" >&2
    exit 1
fi
