import { join } from "node:path";
import { z } from "zod";
import type { Secret } from "../base/secret.ts";
import { sizeMib } from "../domain/config.ts";

const LARGEST_UPLOAD_MIB = 5 * 1024;

/** Names of buckets as S3 has them. */
const bucketName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, "a bucket's name has 3 to 63 of a-z, 0-9, . and -");

const S3Settings = z
  .strictObject({
    endpoint: z
      .string()
      .refine(
        (text) => /^https?:\/\/[^/?#@]+\/?$/.test(text) && URL.canParse(text),
        "expected https://HOST or https://HOST:PORT, without a path",
      )
      .meta({ description: "The server's address, such as https://s3.eu-central-1.amazonaws.com." }),
    bucket: bucketName.meta({ description: "A bucket that is there. It is named in the path of requests." }),
    region: z
      .string()
      .regex(/^[a-z0-9-]{1,40}$/, "expected a region, such as eu-central-1")
      .default("us-east-1")
      .meta({ description: "The region that requests are signed for." }),
    prefix: z
      .string()
      .regex(
        /^[A-Za-z0-9_-]+(?:\/[A-Za-z0-9_-]+)*$/,
        "expected words of letters, digits, _ and -, with / between",
      )
      .default("firerunner")
      .meta({ description: "What the names of all objects begin with." }),
    accessKeyFile: z.string().meta({ description: "A file that holds the access key's id." }),
    secretKeyFile: z.string().meta({ description: "A file that holds the secret key." }),
    caFile: z.string().optional().meta({
      description: "PEM file of a certificate authority that the server's certificate may be from.",
    }),
    plaintext: z.boolean().default(false).meta({
      description: "Speak HTTP without TLS with it: anybody on the way can read and change caches.",
    }),
  })
  .refine(({ endpoint, plaintext }) => endpoint.startsWith("https:") || plaintext, {
    path: ["endpoint"],
    message: "an address without TLS needs plaintext: true",
  })
  .refine(({ endpoint, caFile }) => caFile === undefined || endpoint.startsWith("https:"), {
    path: ["caFile"],
    message: "without TLS there is no certificate that caFile could be for",
  });
export type S3Settings = z.infer<typeof S3Settings>;

/** The `cache` part of the configuration: caches of jobs (`cache:` in .gitlab-ci.yml). */
export const CacheConfig = z
  .strictObject({
    enabled: z.boolean().default(true).meta({ description: "Keep what jobs name under “cache:”." }),
    directory: z.string().startsWith("/", "give an absolute path").optional().meta({
      description: "Where caches lie on this computer; by default cache in the state directory.",
    }),
    size: sizeMib()
      .default(40 * 1024)
      .meta({
        description:
          "How much the caches of all projects may take up in the directory: what was not used for longest goes first.",
      }),
    projectSize: sizeMib()
      .default(10 * 1024)
      .meta({
        description: "The same for one project. One job may upload so much in all, also to an S3 server.",
      }),
    objectSize: sizeMib()
      .default(5 * 1024)
      .meta({ description: "The largest archive of one cache." }),
    minFree: sizeMib().default(2048).meta({
      description: "How much of their disk caches leave free, whatever size says.",
    }),
    separate: z.enum(["ref", "gitlab"]).default("ref").meta({
      description:
        "What keeps caches of protected branches apart. ref: whether the job's ref is protected. gitlab: the endings that GitLab gives to keys, so that a project's setting and the role of who started the pipeline count, too.",
    }),
    s3: S3Settings.optional().meta({
      description:
        "A server that keeps the caches instead of the directory, so that several installations share them. It must remove old ones itself.",
    }),
  })
  .refine(({ objectSize, projectSize, size }) => objectSize <= projectSize && projectSize <= size, {
    message: "give objectSize at most projectSize, and projectSize at most size",
  })
  .refine(({ objectSize, s3 }) => s3 === undefined || objectSize <= LARGEST_UPLOAD_MIB, {
    path: ["objectSize"],
    message: "an S3 server takes at most 5GiB in one upload",
  })
  .meta({ reload: "restart" });
export type CacheConfig = z.infer<typeof CacheConfig>;

/** Beside the rest of the state, unless the configuration names a directory. */
export function cacheDirectory({
  cache,
  state,
}: {
  readonly cache: CacheConfig;
  readonly state: string;
}): string {
  return cache.directory ?? join(state, "cache");
}

/** What the files of `s3` hold. */
export interface S3Access {
  readonly accessKey: Secret;
  readonly secretKey: Secret;
  /** PEM. */
  readonly ca: string | undefined;
}
