import { FireRunnerError } from "../base/errors.ts";

export type ImageErrorCode =
  /** No image of that name or digest is here. */
  | "image_missing"
  /** A file of the image is gone or is not what image.json says. */
  | "image_corrupt"
  /** A program that building needs is not installed. */
  | "image_tools_missing"
  /** No usable package source was found or configured. */
  | "image_no_sources"
  /** The file system of the image directory is too full. */
  | "image_no_space"
  /** A download failed; says whether the server was reached at all. */
  | "image_download_failed"
  /** What was downloaded is not what the release says it is. */
  | "image_download_wrong"
  /** A download would go over plain HTTP, which anybody on the way can change. */
  | "image_download_insecure"
  /** The release's list of digests is not signed by GitLab's key, or has been changed since. */
  | "image_signature_wrong"
  /** The signature is good, but the copy of GitLab's key that is here has run out. */
  | "image_key_expired"
  /** The file of GitLab's key cannot be read, or holds other keys. */
  | "image_key_wrong"
  /** The runner could not be run, or did not ask for a job as a runner does. */
  | "image_runner_broken"
  /** A machine of the image did not run the job of its trial. */
  | "image_trial_failed"
  /** Making the file systems, the kernel or the initramfs failed. */
  | "image_build_failed";

export class ImageError extends FireRunnerError {
  declare readonly code: ImageErrorCode;

  constructor(
    code: ImageErrorCode,
    message: string,
    options: ErrorOptions & { hint?: string; retryable?: boolean } = {},
  ) {
    super(code, message, options);
  }
}

export function imageMissing(name: string, cause?: unknown): ImageError {
  return new ImageError("image_missing", `there is no image “${name}” on this computer`, {
    ...(cause === undefined ? {} : { cause }),
    hint: `build it: firerunner image build${name === "base" ? "" : ` --name ${name}`}`,
  });
}
