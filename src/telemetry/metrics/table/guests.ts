/** What guests ask of the relay, and what is kept for them. */
import { type MetricSection, oneOf } from "./row.ts";

const egressOutcome = oneOf("connected", "failed", "refused", "unlisted");
const guestRule = { kind: "open", of: "rules of the relay", most: 32, rest: "other" } as const;

export const guests = {
  title: "Guests and caches",
  question: "What do guests reach, what is refused to them, and what do caches take up?",
  rows: {
    firerunner_egress_total: {
      type: "counter",
      help: "Destinations that machines reached, did not reach or may not reach, and those that only an auditing pool lets through (unlisted). A machine and destination counts once, failures at most once a minute.",
      labels: { outcome: egressOutcome },
    },
    firerunner_guest_refusals_total: {
      type: "counter",
      help: "Rules of the relay that guests broke; a machine and rule counts at most once a minute.",
      labels: { rule: guestRule },
    },
    firerunner_relay_machines: {
      type: "gauge",
      help: "Machines that may speak to the relay now.",
      labels: {},
    },
    firerunner_relay_held_bytes: {
      type: "gauge",
      help: "What the relay holds of requests that are under way; relay.heldInAll is its bound.",
      labels: {},
    },
    firerunner_cache_requests_total: {
      type: "counter",
      help: "Requests of jobs for caches (fetch: success or miss; one in parts counts several times) and with caches (store: success or failure).",
      labels: { operation: oneOf("fetch", "store"), result: oneOf("success", "miss", "failure") },
    },
    firerunner_image_cache_used_bytes: {
      type: "gauge",
      help: "Disk that images of jobs take up.",
      labels: {},
    },
    firerunner_image_cache_evictable_bytes: {
      type: "gauge",
      help: "Of the images of jobs, what no machine uses now and gives way when room is needed.",
      labels: {},
    },
    firerunner_cache_used_bytes: {
      type: "gauge",
      help: "Disk that caches of jobs take up on this computer; missing where they lie elsewhere.",
      labels: {},
    },
    firerunner_cache_evictable_bytes: {
      type: "gauge",
      help: "Of the caches of jobs, what gives way when room is needed.",
      labels: {},
    },
  },
} as const satisfies MetricSection;
