/** What a job asks for whose machine begins without images and pulls them through the relay. Pure. */
import { ContainerError } from "./errors.ts";
import type { WantedJobImage } from "./job-wants.ts";
import { parseImageName } from "./reference.ts";

/**
 * The registries of these images, as the machine is told them: each is asked through the relay. Throws `container_not_here` for an image
 * that is not to be pulled, and `container_bad_name` where the relay could not be told of its registry.
 */
export function pulledRegistries(images: readonly Pick<WantedJobImage, "name" | "policies">[]): string[] {
  const registries = images.map(({ name, policies }) => {
    if (policies.every((policy) => policy === "never")) throw neverHere(name);
    return parseImageName(name).registry;
  });
  const odd = registries.find((registry) => !isMirrored(registry));
  if (odd !== undefined) throw notMirrored(odd);
  return [...new Set(registries)];
}

/** As clients say it to the relay: by the first part of a name, `HOST` or `HOST__PORT`. */
function isMirrored(registry: string): boolean {
  return !registry.startsWith("[") && /[.:]/.test(registry);
}

function neverHere(name: string): ContainerError {
  return new ContainerError(
    "container_not_here",
    `${name} has the pull policy “never”, and machines of this pool begin without images`,
    { hint: "use always or if-not-present: the machine pulls it through the relay" },
  );
}

function notMirrored(registry: string): ContainerError {
  return new ContainerError(
    "container_bad_name",
    `the registry “${registry}” cannot be asked for by machines of this pool`,
    { hint: "name it by a host with a dot, or with its port" },
  );
}
