#!/usr/bin/env bash
# Boots a machine that is made of Linux namespaces: the first process in them, as `unshare` starts it. Then runs a command.
#
#     boot.sh FOLDER NAME USER UID ENVIRONMENT SHARES COMMAND...
#
# FOLDER: an empty one, to build in. NAME: of the host. USER, UID: the only one who has a home. ENVIRONMENT: a Python's,
# of which the user gets a copy as ~/venv. SHARES: lines "SOURCE TARGET ro|rw". The root file system is the machine's
# too, under a layer in memory that takes what is written; other file systems that are mounted here are not there.
set -euo pipefail
folder=$1 name=$2 user=$3 uid=$4 environment=$5 shares=$6
shift 6

layered() { # LOWER TARGET
    local layer
    layer=$(mktemp -d -p "$folder")
    mkdir "$layer/upper" "$layer/work"
    mount -t overlay none -o "lowerdir=$1,upperdir=$layer/upper,workdir=$layer/work" "$2"
}

mount -t tmpfs none "$folder"
system=$folder/system
mkdir "$system"
layered / "$system"
for own in home run; do mount -t tmpfs -o mode=755 none "$system/$own"; done
for own in tmp var/tmp; do mount -t tmpfs none "$system/$own"; done
mkdir "$system/run/sshd"
mount -t proc none "$system/proc"
mount --rbind /dev "$system/dev"
mount -t tmpfs -o mode=1777 none "$system/dev/shm"
mount --rbind /sys "$system/sys"
mount -t tmpfs none "$system/sys/fs/cgroup"
echo 100000 100000 > "$system/sys/fs/cgroup/cpu.max" # one core, as Ray reads it

chroot "$system" userdel "$user" 2> /dev/null || true
chroot "$system" useradd --uid "$uid" --create-home --shell /bin/bash --password '*' "$user"
home=/home/$user

mkdir "$system$home/venv"
layered "$environment" "$system$home/venv"
find "$system$home/venv" -type d -exec chown "$uid:$uid" {} +
sed -i "1s|.*|#!$home/venv/bin/python|" "$system$home/venv/bin/ray"

while read -r source target mode; do
    mkdir -p "$system$target"
    mount --bind "$source" "$system$target"
    mount -o "remount,bind,$mode" "$system$target"
    while target=$(dirname "$target") && [ "$target" != / ]; do chmod a+x "$system$target"; done
done <<< "$shares"

hostname "$name"
echo "127.0.0.1 localhost $name" > "$system/etc/hosts"
ip link set lo up
mkdir "$system/before"
cd "$system"
pivot_root . before
cd /
umount --lazy /before
rmdir /before
rm -f /etc/ssh/ssh_host_* # this machine's
touch /run/booted
exec "$@"
