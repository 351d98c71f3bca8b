import { type AbilityName, wantedAbilities } from "../domain/images.ts";
import type { Config } from "./load.ts";

/** What this configuration wants of the images of its pools: what is wanted always, and what it asks for itself. */
export function neededAbilities({
  gitlab,
  proxy,
  guests,
}: Pick<Config, "gitlab" | "proxy" | "guests">): AbilityName[] {
  const hasAuthorities = [gitlab, proxy, guests].some(({ caFile }) => caFile !== undefined);
  return wantedAbilities(hasAuthorities ? ["authorities"] : []);
}
