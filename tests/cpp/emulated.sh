#!/usr/bin/env bash
# The C++ tests on instruction sets that this machine has not, on a PC that Bochs emulates: AVX-VNNI, AVX-512, its VNNI
# and its bfloat16. A Linux starts there with the tests alone, and what comes out of its serial line is printed here.
# Two minutes.
#
#   tests/cpp/emulated.sh FOLDER         FOLDER has low_tests and kernel_tests, linked with -static
#
#   BOCHS=bochs                          Bochs 3.0 or later, configured --enable-x86-64 --enable-avx --enable-evex
#                                        --with-nogui (by GCC 12 with -O1; with -O2 and --enable-handlers-chaining Linux
#                                        crashed as it started). What 2.7 says of its registers Linux does not trust
#   LINUX=/boot/vmlinuz                  a kernel with what it needs to start built in: 6.12 was tried
#   CASES=6                              how many of each test
set -euo pipefail
tests=$(realpath "${1:?the folder of the tests}")
bochs=${BOCHS:-bochs} linux=${LINUX:-/boot/vmlinuz} cases=${CASES:-6}
isolinux=/usr/lib/ISOLINUX/isolinux.bin loader=/usr/lib/syslinux/modules/bios/ldlinux.c32
bios=/usr/share/bochs/BIOS-bochs-latest vga=/usr/share/bochs/VGABIOS-lgpl-latest busybox=/bin/busybox

missing=()
needs() { # a file or a program, and what has it
    [[ -e $1 ]] || command -v "$1" >/dev/null || missing+=("$1: $2")
}
needs "$bochs" "Bochs 3.0 or later; the head of this file says how it is built"
needs "$linux" "a Linux; Debian: linux-image-cloud-amd64"
needs "$bios" "Debian: bochsbios"
needs "$vga" "Debian: bochsbios, vgabios"
needs "$isolinux" "Debian: isolinux"
needs "$loader" "Debian: syslinux-common"
needs "$busybox" "Debian: busybox-static"
needs genisoimage "Debian: genisoimage"
needs cpio "Debian: cpio"
if ((!${#missing[@]})) && [[ $("$bochs" --help cpu 2>&1 || true) != *sapphire_rapids* ]]; then
    missing+=("the model sapphire_rapids: Bochs 3.0 and later have it")
fi
if ((${#missing[@]})); then
    printf 'missing: %s\n' "${missing[@]}" >&2
    exit 2
fi

work=$(mktemp -d)
emulator=
trap '[[ -z $emulator ]] || kill -9 "$emulator" 2>/dev/null; rm -rf "$work"' EXIT
mkdir -p "$work/root/dev" "$work/disc"

# What Linux starts.
cp "$tests/low_tests" "$tests/kernel_tests" "$busybox" "$work/root"
strip "$work/root/low_tests" "$work/root/kernel_tests"
cat >"$work/root/init" <<INIT
#!/busybox sh
for tests in "/low_tests $cases" "/kernel_tests --isa avx512 $cases" "/kernel_tests --isa avx512+bf16 $cases"; do
    \$tests; echo "\$tests: ended with \$?"
done
echo "the end"
/busybox sleep 5 # the serial line is slow
/busybox poweroff -f
INIT
chmod +x "$work/root/init"
(cd "$work/root" && find . | cpio -o -H newc --quiet | gzip >"$work/disc/initrd")

# A disc that starts it.
cp "$linux" "$work/disc/linux"
cp "$isolinux" "$loader" "$work/disc"
cat >"$work/disc/isolinux.cfg" <<'DISC'
default tests
label tests
  kernel linux
  append initrd=initrd console=ttyS0 quiet panic=-1 nokaslr no5lvl mitigations=off noxsaves nopku
DISC
genisoimage -quiet -o "$work/disc.iso" -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table \
    "$work/disc"

cat >"$work/pc" <<PC
cpu: model=sapphire_rapids, count=1, ips=200000000
memory: guest=512, host=512
romimage: file=$bios
vgaromimage: file=$vga
display_library: nogui
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=$work/disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$work/serial
clock: sync=none, time0=utc
speaker: enabled=0
panic: action=fatal
error: action=ignore
log: $work/log
PC
"$bochs" -q -f "$work/pc" </dev/null >/dev/null 2>&1 &
emulator=$!
: >"$work/serial"
tail -n +1 -F "$work/serial" --pid "$emulator" 2>/dev/null | sed -u '/^the end/q' || true
if (($(grep -c 'tests.*: ended with 0' "$work/serial") != 2)); then
    tail -n 5 "$work/log" >&2
    exit 1
fi
