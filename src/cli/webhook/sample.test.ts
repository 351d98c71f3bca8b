import { expect, test } from "vitest";
import { Secret } from "../../base/secret.ts";
import { deliveryHeaders } from "./sample.ts";

test("a delivery has the headers of GitLab, signed as Standard Webhooks describes it", () => {
  // The example of the specification.
  const signingKey = new Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
  const id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
  const delivery = { event: "Job Hook", id, now: 1_614_265_330_400, body: '{"test": 2432232314}' };

  const headers = deliveryHeaders(delivery, { signingKey, token: undefined });

  expect(headers).toMatchObject({
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    "webhook-id": id,
    "webhook-timestamp": "1614265330",
    "x-gitlab-event": "Job Hook",
  });
  expect(headers).not.toHaveProperty("x-gitlab-token");
});

test("without a signing key the secret token goes along alone", () => {
  const delivery = { event: "Job Hook", id: "1", now: 0, body: "{}" };
  const headers = deliveryHeaders(delivery, { signingKey: undefined, token: new Secret("word") });

  expect(headers["x-gitlab-token"]).toBe("word");
  expect(headers).not.toHaveProperty("webhook-signature");
});
