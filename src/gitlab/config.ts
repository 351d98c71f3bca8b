import { z } from "zod";

export const GitLabConfig = z
  .strictObject({
    url: z
      .url({
        protocol: /^https?$/,
        error: "expected the address of GitLab, such as https://gitlab.example.com",
      })
      .refine((url) => !hasExtras(url), {
        error: "expected only scheme, host, port and path: no user name, no query, no fragment",
      })
      .meta({ description: "Address of GitLab, with its path if it lives under one." }),
    caFile: z.string().min(1).optional().meta({
      description:
        "PEM file of certificate authorities to trust besides the system's, for a private GitLab. Machines trust them too.",
    }),
    clientCertificateFile: z.string().min(1).optional().meta({
      description:
        "PEM file of the certificate, with its chain, to show to a GitLab that asks for one. Read again when it changes.",
    }),
    clientKeyFile: z.string().min(1).optional().meta({
      description: "PEM file of its private key.",
    }),
  })
  .meta({ reload: "restart" });
export type GitLabConfig = z.infer<typeof GitLabConfig>;

function hasExtras(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && [url.username, url.password, url.search, url.hash].some((part) => part !== "");
}
