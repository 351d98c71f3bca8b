import type { BootImage } from "../../domain/images.ts";
import type { Probe } from "../driver.ts";
import { VmError } from "../errors.ts";
import { type AcceleratorOptions, type Choice, chooseAccelerator } from "./accelerator.ts";
import { type Architecture, architectures } from "./architectures.ts";
import { findPrograms, type Programs, qemuVersion } from "./host-facts.ts";
import { checkImageAccess } from "./image-access.ts";

/** Everything that must be known of this computer before an image's machines can be started. */
export interface Host {
  readonly architecture: Architecture;
  readonly programs: Programs;
  readonly choice: Choice;
}

/** Throws a VmError that says what is missing and how to get it. */
export async function examineHost(
  image: BootImage,
  options: AcceleratorOptions,
  signal: AbortSignal,
): Promise<Host> {
  const architecture = architectures[image.architecture];
  if (!architecture) {
    const known = Object.keys(architectures).join(" or ");
    throw new VmError("vm_unusable", `the image is for ${image.architecture}, not for ${known}`);
  }
  const programs = await findPrograms(architecture);
  await checkImageAccess(image, options.smokeUid !== undefined);
  const choice = await chooseAccelerator(options, { image, architecture, programs }, signal);
  return { architecture, programs, choice };
}

export async function probeHost(
  image: BootImage,
  options: () => Promise<AcceleratorOptions>,
  signal: AbortSignal,
): Promise<Probe> {
  try {
    const { choice, programs } = await examineHost(image, await options(), signal);
    const version = await qemuVersion(programs.qemu, signal);
    const note = choice.note === undefined ? {} : { note: choice.note };
    return { usable: true, accelerator: choice.accelerator, version, ...note };
  } catch (error) {
    if (!(error instanceof VmError)) throw error;
    return { usable: false, problem: error.message, hint: error.hint ?? "see firerunner doctor" };
  }
}
