import { expect, test } from "vitest";
import { configJsonSchema } from "./values.ts";

test("tells editors the forms people write, with defaults in words and secrets marked", () => {
  const schema = configJsonSchema() as never as {
    properties: { pools: { additionalProperties: { properties: Record<string, { properties: object }> } } };
  };

  const pool = schema.properties.pools.additionalProperties.properties;
  expect(pool["size"]?.properties).toMatchObject({
    memory: { type: "string", default: "2GiB", pattern: expect.stringContaining("GT") },
  });
  expect(pool["runner"]?.properties).toMatchObject({ token: { writeOnly: true } });
  expect(JSON.stringify(schema)).not.toContain(String(Number.MAX_SAFE_INTEGER));
});
