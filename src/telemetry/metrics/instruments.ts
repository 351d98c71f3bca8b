/**
 * The instruments of the table, and their text. Counters and histograms grow as things happen; gauges, and counters that somebody else keeps,
 * are written anew for each scrape, so that what is gone is not shown any more.
 */
import { Counter, type CounterConfiguration, Gauge, Histogram, Registry } from "@prometheus-io/client";
import { type Bounded, createBounded } from "./label-values.ts";
import type { LabelBound, MetricRow } from "./table/row.ts";
import {
  compatibleNames,
  type LabelsOf,
  type MetricName,
  type MetricOf,
  type MirroredCounter,
  metricTable,
} from "./table.ts";

export type TextFormat = "prometheus" | "openmetrics";

export interface Scraped {
  readonly contentType: string;
  readonly text: string;
}

/** Writes gauges, and counters that are kept elsewhere, as they are now. */
export interface Snapshot {
  /** Several values under the same labels, as under those beyond a bound, are added. A value that is not known is left out. */
  set<Name extends MetricOf<"gauge">>(
    name: Name,
    value: number | undefined,
    ...labels: LabelArguments<Name>
  ): void;
  /** What was counted elsewhere since that began. */
  counted<Name extends MirroredCounter>(
    name: Name,
    total: number | undefined,
    ...labels: LabelArguments<Name>
  ): void;
}

/** Counters that grow here. */
type EventCounter = Exclude<MetricOf<"counter">, MirroredCounter>;

/** None where the metric has none. */
type LabelArguments<Name extends MetricName> = keyof LabelsOf<Name> extends never
  ? []
  : [labels: LabelsOf<Name>];

export interface Instruments {
  /** `by` 0 shows a series before there is anything to count. */
  count<Name extends EventCounter>(name: Name, by: number, ...labels: LabelArguments<Name>): void;
  /** In the unit of its name. */
  observe<Name extends MetricOf<"histogram">>(
    name: Name,
    value: number,
    ...labels: LabelArguments<Name>
  ): void;
  /** Forgets what was written for the scrape before. What is written until the next call is what is scraped. */
  snapshot(): Snapshot;
  text(format: TextFormat): Promise<Scraped>;
}

type Instrument = Counter<string> | Gauge<string> | Histogram<string>;
type Labels = Readonly<Record<string, string>>;

/** Combinations of fixed values up to which all are shown from the start, so that the first of each is seen to be one more. */
const MOST_SHOWN_AT_ONCE = 24;

/** `withCompatible`: also the series that are there on request alone. */
export function createInstruments({ withCompatible }: { readonly withCompatible: boolean }): Instruments {
  const registry = new Registry();
  const made = new Map<string, Made>();
  const bounds = new Map<LabelBound, Bounded>();
  for (const [name, row] of Object.entries(metricTable)) {
    if (withCompatible || !compatibleNames.has(name)) made.set(name, make(name, row, { registry, bounds }));
  }
  let snapshots = 0;

  function snapshot(): Snapshot {
    const own = ++snapshots;
    for (const { instrument, isMomentary } of made.values()) if (isMomentary) empty(instrument);
    const write = (name: string, value: number | undefined, labels: Labels | undefined) => {
      // Who comes too late for one scrape must not add to what the next one has.
      if (value === undefined || !Number.isFinite(value) || own !== snapshots) return;
      add(made.get(name), labels, value);
    };
    return {
      set: (name, value, ...[labels]) => write(name, value, labels),
      counted: (name, total, ...[labels]) => write(name, total, labels),
    };
  }

  return {
    count: (name, by, ...[labels]) => add(made.get(name), labels, by),
    observe(name, value, ...[labels]) {
      const found = made.get(name);
      if (found?.instrument instanceof Histogram)
        found.instrument.observe(boundedLabels(found, labels), Math.max(0, value));
    },
    snapshot,
    async text(format) {
      if (format === "prometheus")
        return { contentType: registry.contentType, text: await registry.metrics() };
      // Asked for OpenMetrics, a registry takes `_total` off its own counters for good.
      const metrics = (await registry.getMetricsAsJSON()).map(named);
      const copy = Registry.aggregate([metrics]);
      copy.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
      return { contentType: copy.contentType, text: await copy.metrics() };
    },
  };
}

/**
 * OpenMetrics has a counter's `_total` on its series alone. Where the name without it is another metric's (`firerunner_jobs`), it cannot be
 * called a counter there; its series are the same.
 */
function named(metric: { readonly name: string; readonly type: string }): object {
  if (metric.type !== "counter") return metric;
  const name = metric.name.replace(/_total$/, "");
  return name in metricTable ? { ...metric, type: "unknown" } : { ...metric, name };
}

interface Made {
  readonly instrument: Instrument;
  /** It is what was written for the last scrape, and nothing before. */
  readonly isMomentary: boolean;
  readonly bounds: Readonly<Record<string, Bounded>>;
}

interface Shared {
  readonly registry: Registry;
  readonly bounds: Map<LabelBound, Bounded>;
}

function make(name: string, row: MetricRow, { registry, bounds: shared }: Shared): Made {
  const labelNames = Object.keys(row.labels);
  const options: Options = { name, help: row.help, labelNames, registers: [registry] };
  const bounds = Object.fromEntries(
    Object.entries(row.labels).map(([label, bound]) => [label, sharedBound(shared, bound)]),
  );
  const isMomentary = row.type === "gauge" || row.mirrored === true;
  return { instrument: instrumentOf(row, options), bounds, isMomentary };
}

function sharedBound(shared: Map<LabelBound, Bounded>, bound: LabelBound): Bounded {
  const bounded = shared.get(bound) ?? createBounded(bound);
  shared.set(bound, bounded);
  return bounded;
}

type Options = Pick<CounterConfiguration<string>, "name" | "help" | "labelNames" | "registers">;

function instrumentOf(row: MetricRow, options: Options): Instrument {
  if (row.type === "gauge") return new Gauge(options);
  if (row.type === "histogram") return new Histogram({ ...options, buckets: [...(row.buckets ?? [])] });
  return row.mirrored ? new Counter(options) : started(new Counter(options), row);
}

function started(counter: Counter<string>, { labels }: MetricRow): Counter<string> {
  const all = combinations(Object.entries(labels));
  if (all.length <= MOST_SHOWN_AT_ONCE) for (const each of all) counter.inc(each, 0);
  return counter;
}

/** Every combination of fixed values; none where a label is open. */
function combinations(labels: readonly (readonly [string, LabelBound])[]): Labels[] {
  let all: Labels[] = [{}];
  for (const [name, bound] of labels) {
    if (bound.kind === "open") return [];
    all = all.flatMap((before) => bound.values.map((value) => ({ ...before, [name]: value })));
  }
  return all;
}

/** Without the zero that an instrument without labels begins with: what is not known is not zero. */
function empty(instrument: Instrument): void {
  instrument.reset();
  if (!(instrument instanceof Histogram)) instrument.remove({});
}

function add(made: Made | undefined, labels: Labels | undefined, by: number): void {
  if (made === undefined || made.instrument instanceof Histogram) return;
  made.instrument.inc(boundedLabels(made, labels), by);
}

function boundedLabels({ bounds }: Made, labels: Labels = {}): Labels {
  return Object.fromEntries(
    Object.entries(bounds).map(([name, bounded]) => [name, bounded(labels[name] ?? "")]),
  );
}
