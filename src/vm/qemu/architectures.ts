/** What differs between processors, in Debian's words for them. */
export interface Architecture {
  readonly program: string;
  /** The Debian package of the program. */
  readonly debianPackage: string;
  readonly machine: string;
  readonly serialDevice: string;
  /** One of these kernel modules must be loaded for KVM to be the real one. Empty: no module tells. */
  readonly kvmModules: readonly string[];
  /** How the guest's kernel restarts, so that a panic ends the machine as a reset. */
  readonly kernelArguments: readonly string[];
}

export const architectures: Readonly<Record<string, Architecture>> = {
  amd64: {
    program: "qemu-system-x86_64",
    debianPackage: "qemu-system-x86",
    machine: "microvm,acpi=on",
    serialDevice: "ttyS0",
    kvmModules: ["kvm_intel", "kvm_amd"],
    // ACPI's restart hangs on microvm and the keyboard controller's takes 2 s; a triple fault is immediate.
    kernelArguments: ["reboot=t"],
  },
  arm64: {
    program: "qemu-system-aarch64",
    debianPackage: "qemu-system-arm",
    machine: "virt",
    serialDevice: "ttyAMA0",
    kvmModules: [],
    kernelArguments: [],
  },
};
