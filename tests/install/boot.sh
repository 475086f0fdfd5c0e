#!/bin/bash
# A systemd that runs: the first process of namespaces of its own, over this machine's files; what it writes is in memory.
#     unshare --mount --pid --cgroup --fork --ipc --uts --net boot.sh FOLDER
# Its root is FOLDER/root. Units of this machine are not started, nor is anything outside of the namespaces touched.
set -euo pipefail
folder=$1

mount --make-rprivate /
mount -t tmpfs tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
cd "$folder/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for name in run tmp dev; do
        mount -t tmpfs tmpfs "$name"
done
mkdir dev/pts dev/shm
for name in null zero full random urandom tty; do
        touch "dev/$name"
        mount --bind "/dev/$name" "dev/$name"
done
ln -s /proc/self/fd dev/fd

mkdir -p etc/systemd/system
ln -sf /lib/systemd/system/multi-user.target etc/systemd/system/default.target
rm -rf etc/systemd/system/*.wants
for unit in systemd-udevd.service systemd-udev-trigger.service systemd-networkd.service systemd-logind.service systemd-timesyncd.service \
        getty.target nginx.service prometheus.service dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
        sys-fs-fuse-connections.mount; do
        ln -sf /dev/null "etc/systemd/system/$unit"
done
: >etc/fstab
exec env -i container=chroot PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /lib/systemd/systemd --log-target=console --show-status=no
