import { FireRunnerError } from "../base/errors.ts";
import { formatBytes } from "../base/units.ts";

type ContainerErrorCode =
  /** What was given is not the name of a container image. */
  | "container_bad_name"
  /** A job asks for an image by a pull policy that there is not. */
  | "container_bad_policy"
  /** The registry has no image of that name, tag or digest. */
  | "container_not_found"
  /** The registry does not let this login, or anybody without one, read the image. */
  | "container_denied"
  /** The image names a registry at an address that jobs may not reach. */
  | "container_forbidden_address"
  /** The images of a job did not come in the time that its pool gives them. */
  | "container_late"
  /** The image is not here, and may not be fetched. */
  | "container_not_here"
  /** There is no such image for Linux on this computer's architecture. */
  | "container_wrong_platform"
  /** What the registry sends is not an image that can be used here, or is not what its digest says. */
  | "container_bad_image"
  /** A layer holds what no layer should: nothing of the image is kept. */
  | "container_layer_refused"
  /** The image is larger than an image may be. */
  | "container_too_large"
  /** The disk of an image could not be made. */
  | "container_compose_failed"
  /** There is no room for the image, though everything that nobody needs has been removed. */
  | "container_no_space"
  /** The directory of job images cannot be used, or something in it has been damaged. */
  | "container_cache_broken";

export class ContainerError extends FireRunnerError {
  declare readonly code: ContainerErrorCode;

  constructor(
    code: ContainerErrorCode,
    message: string,
    options: ErrorOptions & { hint?: string; retryable?: boolean } = {},
  ) {
    super(code, message, options);
  }
}

/** By the limit of the cache, or by what its disk has. */
type Shortage =
  | { readonly sizeBytes: number; readonly used: number }
  | { readonly free: number; readonly minFreeBytes: number; readonly directory: string };

/** Of an image, or with 0 of any. */
export function noSpace(bytes: number, shortage: Shortage): ContainerError {
  const wanted = bytes === 0 ? "images" : `an image of ${formatBytes(bytes)}`;
  if ("sizeBytes" in shortage)
    return new ContainerError(
      "container_no_space",
      `there is no room for ${wanted}: ${formatBytes(shortage.used)} of ${formatBytes(shortage.sizeBytes)} are in use`,
      { hint: "raise containers.cache.size, or wait until jobs have ended", retryable: true },
    );
  return new ContainerError(
    "container_no_space",
    `there is no room for ${wanted}: the disk of ${shortage.directory} has ${formatBytes(shortage.free)} left, of which ${formatBytes(shortage.minFreeBytes)} stay free`,
    {
      hint: "make room on it, name another directory with containers.cache.directory, or lower containers.cache.minFree",
      retryable: true,
    },
  );
}
