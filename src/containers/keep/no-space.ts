import { formatBytes } from "../../base/units.ts";
import { ContainerError } from "../errors.ts";

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
