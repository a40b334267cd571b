/**
 * Kubeconfigs, as JSON with keys in a fixed order (YAML readers take JSON). They hold no credential: a plugin asks the cloud for a
 * short-lived one as whoever uses it. Still secret, because where a cluster is and how to trust it is nobody else's business.
 */
import { all, secret, type Input, type Output } from '@pulumi/pulumi/output.js';

export interface KubeconfigArgs {
  /** Names cluster, context and user in it. */
  name: string;
  server: Input<string>;
  /** PEM in base64. */
  certificateAuthority: Input<string>;
  exec: { command: string; args: string[]; env?: { name: string; value: string }[]; installHint: string };
}

export function makeKubeconfig({ name, server, certificateAuthority, exec }: KubeconfigArgs): Output<string> {
  const text = all([server, certificateAuthority]).apply(([url, authority]) =>
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': name,
      clusters: [{ name, cluster: { 'certificate-authority-data': authority, server: url } }],
      contexts: [{ name, context: { cluster: name, user: name } }],
      users: [
        {
          name,
          user: {
            exec: {
              apiVersion: 'client.authentication.k8s.io/v1beta1',
              args: exec.args,
              command: exec.command,
              env: exec.env ?? [],
              installHint: exec.installHint,
              interactiveMode: 'Never',
              provideClusterInfo: false,
            },
          },
        },
      ],
    }),
  );
  return secret(text);
}
