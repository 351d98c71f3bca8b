/**
 * Group commit: a flush of the disk takes as long for hundreds of deliveries as for one. What arrives while one batch is being
 * made durable is the next batch. How many wait is bounded by the requests that the public server lets in.
 */
import type { Clock } from "../base/clock.ts";
import type { Delivery } from "../store/delivery-store.ts";

/** So that nobody waits long for the transaction of one batch. */
const MOST_ROWS = 500;
/**
 * From the beginning of one batch to that of the next, while deliveries keep coming: a batch of thirty costs the program only
 * twice what one of three does.
 */
const PACE_MS = 5;

export type NewDelivery = Omit<Delivery, "receivedAt">;

export interface DeliveryBatch {
  /** Resolves once it is durable: true when it is new, false when it was known by its key. Rejects when its batch failed. */
  add(delivery: NewDelivery): Promise<boolean>;
}

interface Waiting {
  readonly delivery: NewDelivery;
  readonly resolve: (isNew: boolean) => void;
  readonly reject: (error: unknown) => void;
}

export function createDeliveryBatch(
  keep: (deliveries: readonly NewDelivery[]) => Promise<readonly boolean[]>,
  clock: Pick<Clock, "sleep">,
): DeliveryBatch {
  const queue: Waiting[] = [];
  let isCommitting = false;

  async function commitAll(): Promise<void> {
    isCommitting = true;
    // Whatever arrived with this one shares its flush.
    await Promise.resolve();
    while (queue.length > 0) {
      const paced = clock.sleep(PACE_MS);
      const left = await commit(queue.splice(0, MOST_ROWS));
      if (left > 0 && left < MOST_ROWS) await paced;
    }
    isCommitting = false;
  }

  /** Returns how many have come meanwhile. */
  async function commit(batch: readonly Waiting[]): Promise<number> {
    let left = 0;
    try {
      const areNew = await keep(batch.map(({ delivery }) => delivery));
      left = queue.length;
      for (const [index, { resolve }] of batch.entries()) resolve(areNew[index] ?? false);
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
    return left;
  }

  return {
    add: (delivery) =>
      new Promise((resolve, reject) => {
        queue.push({ delivery, resolve, reject });
        if (!isCommitting) void commitAll();
      }),
  };
}
