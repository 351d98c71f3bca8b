import type { Figure } from "./core/figure.ts";
import { artifacts } from "./figures/artifacts.ts";
import { boot } from "./figures/boot.ts";
import { cache } from "./figures/cache.ts";
import { cancel } from "./figures/cancel.ts";
import { claim } from "./figures/claim.ts";
import { density } from "./figures/density.ts";
import { fleetIdle } from "./figures/fleet-idle.ts";
import { imageJobs } from "./figures/image-jobs.ts";
import { imagePull } from "./figures/image-pull.ts";
import { imageStart } from "./figures/image-start.ts";
import { jobImages } from "./figures/job-images.ts";
import { load } from "./figures/load.ts";
import { metrics } from "./figures/metrics.ts";
import { placement } from "./figures/placement.ts";
import { queue } from "./figures/queue.ts";
import { relay } from "./figures/relay.ts";
import { restart } from "./figures/restart.ts";
import { start } from "./figures/start.ts";
import { webhook } from "./figures/webhook.ts";

/** In the order of the page. */
export const figures: readonly Figure[] = [
  claim,
  webhook,
  start,
  cancel,
  relay,
  artifacts,
  cache,
  jobImages,
  imageJobs,
  imageStart,
  imagePull,
  load,
  restart,
  boot,
  density,
  placement,
  queue,
  fleetIdle,
  metrics,
];
