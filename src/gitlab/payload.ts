import { z } from "zod";

const Variable = z.looseObject({
  key: z.string(),
  value: z
    .string()
    .nullish()
    .transform((value) => value ?? ""),
  masked: z.boolean().nullish(),
});

const Dependency = z.looseObject({ id: z.number(), name: z.string(), token: z.string() });

/**
 * The fields of a job payload (`201` of `POST /jobs/request`) that FireRunner reads. Every other field is kept and passed on
 * to the guest untouched: parse for reading, but change and forward the original JSON (see `rewritePayload` in relay/).
 */
export const JobPayload = z.looseObject({
  id: z.number().int().positive(),
  token: z.string().min(1),
  job_info: z.looseObject({
    name: z.string(),
    stage: z.string().nullish(),
    project_id: z.number().nullish(),
    project_name: z.string().nullish(),
    project_full_path: z.string().nullish(),
  }),
  git_info: z.looseObject({ repo_url: z.string() }).nullish(),
  runner_info: z.looseObject({ timeout: z.number().nullish() }).nullish(),
  variables: z.array(Variable).nullish(),
  image: z.looseObject({ name: z.string() }).nullish(),
  services: z.array(z.looseObject({ name: z.string() })).nullish(),
  /** Only shown and left out: a shape that is not known is no reason to refuse the job. */
  cache: z
    .array(z.looseObject({ key: z.unknown() }))
    .nullish()
    .catch(null),
  dependencies: z.array(Dependency).nullish(),
  credentials: z.array(z.looseObject({ password: z.string().nullish() })).nullish(),
});
export type JobPayload = z.infer<typeof JobPayload>;
