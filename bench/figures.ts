import type { Figure } from "./core/figure.ts";
import { artifacts } from "./figures/artifacts.ts";
import { claim } from "./figures/claim.ts";
import { load } from "./figures/load.ts";
import { relay } from "./figures/relay.ts";
import { restart } from "./figures/restart.ts";

/** In the order of the page. */
export const figures: readonly Figure[] = [claim, relay, artifacts, load, restart];
