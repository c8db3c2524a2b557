#!/usr/bin/env bash
# kernel.sh DIR: puts Debian's cloud kernel (vmlinuz) and its RAM disk module (brd.ko) into DIR, without installing either.
set -euo pipefail
dir=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case $(dpkg --print-architecture) in
  amd64) meta=linux-image-cloud-amd64 ;;
  *) echo "kernel.sh: the microvm runs on amd64 only, this is $(dpkg --print-architecture)" >&2; exit 1 ;;
esac
find_package() { apt-cache depends "$meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -1; }
package=$(find_package)
if [ -z "$package" ] && [ "$(id -u)" = 0 ]; then
  apt-get update -qq
  package=$(find_package)
fi
if [ -z "$package" ]; then
  echo "kernel.sh: apt knows no package behind $meta: run apt-get update first" >&2
  exit 1
fi
(cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "$package")
dpkg-deb -x "$work"/*.deb "$work/x"
mkdir -p "$dir"
cp "$work"/x/boot/config-* "$dir/config"
find "$work/x" -name brd.ko -exec cp {} "$dir/brd.ko" \;
cp "$work"/x/boot/vmlinuz-* "$dir/vmlinuz"
echo "$package" >"$dir/version"
