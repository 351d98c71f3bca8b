import { type AbilityName, wantedAbilities } from "../lifecycle/guest-abilities.ts";
import type { Config } from "./load.ts";

/** What this configuration wants of the images of its pools: what is wanted always, and what it asks for itself. */
export function neededAbilities(_config: Pick<Config, "pools">): AbilityName[] {
  return wantedAbilities();
}
