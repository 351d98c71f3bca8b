import type { Delivery } from "../../src/store/jobs-by-tag.ts";

/** A Job Hook as the receiver hands it to the store. */
export function aDelivery(
  overrides: Partial<Omit<Delivery, "receivedAt">> = {},
): Omit<Delivery, "receivedAt"> {
  return {
    key: "5f0a3c7e-9f7e-4a6e-8a8f-2f4f6f1f9f10",
    event: "Job Hook",
    projectId: 7,
    jobId: 4711,
    status: "pending",
    ...overrides,
  };
}
