#!/usr/bin/env bash
# The C++ tests on instruction sets that this machine has not, on a PC that Bochs emulates: AVX-512 and its VNNI, and of
# Bochs 3.0 or later AVX-VNNI and the bfloat16 of AVX-512 too. A Linux starts there with the tests alone, and what comes
# out of its serial line is printed here. Ten minutes or more.
#
#   tests/cpp/emulated.sh FOLDER         FOLDER has low_tests and kernel_tests, linked with -static
#
#   BOCHS=bochs LINUX=/boot/vmlinuz      the emulator; a kernel with what it needs to start built in
#   CASES=4                              how many of each test
set -euo pipefail
tests=$(realpath "${1:?the folder of the tests}")
bochs=${BOCHS:-bochs} linux=${LINUX:-/boot/vmlinuz} cases=${CASES:-4}
isolinux=/usr/lib/ISOLINUX/isolinux.bin loader=/usr/lib/syslinux/modules/bios/ldlinux.c32
bios=/usr/share/bochs/BIOS-bochs-latest vga=/usr/share/bochs/VGABIOS-lgpl-latest busybox=/bin/busybox

missing=()
needs() { # a file or a program, and what has it
    [[ -e $1 ]] || command -v "$1" >/dev/null || missing+=("$1: $2")
}
needs "$bochs" "an emulator; Debian: bochs, bochs-term"
needs "$linux" "a Linux, 6.12 was tried; Debian: linux-image-cloud-amd64"
needs "$bios" "Debian: bochsbios"
needs "$vga" "Debian: bochsbios, vgabios"
needs "$isolinux" "Debian: isolinux"
needs "$loader" "Debian: syslinux-common"
needs "$busybox" "Debian: busybox-static"
needs genisoimage "Debian: genisoimage"
needs cpio "Debian: cpio"
if ((${#missing[@]})); then
    printf 'missing: %s\n' "${missing[@]}" >&2
    exit 2
fi

work=$(mktemp -d)
emulator=
trap '[[ -z $emulator ]] || kill "$emulator" 2>/dev/null; rm -rf "$work"' EXIT
mkdir -p "$work/root/dev" "$work/disc"

# What Linux starts.
cp "$tests/low_tests" "$tests/kernel_tests" "$busybox" "$work/root"
strip "$work/root/low_tests" "$work/root/kernel_tests"
cat >"$work/root/init" <<INIT
#!/busybox sh
for tests in "/low_tests $cases" "/kernel_tests --isa avx512 $cases"; do
    \$tests; echo "\$tests: ended with \$?"
done
echo "the end"
/busybox sleep 5 # the serial line is slow
/busybox poweroff -f
INIT
chmod +x "$work/root/init"
(cd "$work/root" && find . | cpio -o -H newc --quiet | gzip >"$work/disc/initrd")

# A disc that starts it. Of 2.7's protection keys and compacted states (XSAVEC, XSAVES) Linux finds that they do not fit
# together, and would do without AVX: do without these instead.
cp "$linux" "$work/disc/linux"
cp "$isolinux" "$loader" "$work/disc"
cat >"$work/disc/isolinux.cfg" <<'DISC'
default tests
label tests
  kernel linux
  append initrd=initrd console=ttyS0 quiet panic=-1 nokaslr no5lvl mitigations=off clearcpuid=321,323
DISC
genisoimage -quiet -o "$work/disc.iso" -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table \
    "$work/disc"

models=$("$bochs" --help cpu 2>&1 || true) options=$("$bochs" --help 2>&1 || true)
model=tigerlake
if [[ $models == *sapphire_rapids* ]]; then
    model=sapphire_rapids
else
    echo "this Bochs has neither AVX-VNNI nor bfloat16: 3.0 and later have" >&2
fi
cat >"$work/pc" <<PC
cpu: model=$model, count=1, ips=200000000
memory: guest=512, host=512
romimage: file=$bios
vgaromimage: file=$vga
display_library: term
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=$work/disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$work/serial
clock: sync=none, time0=utc
speaker: enabled=0
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
panic: action=fatal
error: action=ignore
log: $work/log
PC
command="$bochs -q -f $work/pc"
if [[ $options == *" -rc "* ]]; then # a Bochs with a debugger, as Debian's: told to go on
    echo c >"$work/commands"
    command+=" -rc $work/commands"
    echo "plugin_ctrl: speaker=0, gameport=0, iodebug=0, parallel=0, unmapped=1, biosdev=1, extfpuirq=1, serial=1" \
        >>"$work/pc"
fi

TERM=xterm script -qfc "$command" "$work/messages" </dev/null >/dev/null 2>&1 &
emulator=$!
: >"$work/serial"
tail -n +1 -F "$work/serial" --pid "$emulator" 2>/dev/null | sed -u '/^the end/q' || true
if (($(grep -c 'tests.*: ended with 0' "$work/serial") != 2)); then
    tail -n 5 "$work/log" >&2
    exit 1
fi
