/** What the agent needs of Node: for the installer, the simulated machines and whoever measures it. */

/** Called as a test of whether a Node will do: 20.16, 22.3 and newer. */
export const AGENT_NODE_TEST = 'process.exit(process.getBuiltinModule ? 0 : 1)';
/** For people. */
export const AGENT_NODE_VERSION = '20.16';

/** Machines for which the control plane may hand out a Node. */
export const AGENT_PLATFORMS = ['linux-x64', 'linux-arm64'] as const;
export type AgentPlatform = (typeof AGENT_PLATFORMS)[number];

/** Without a compiler and with small spaces it takes 55 MB instead of 64; it does so little that it is not slower. */
export const AGENT_NODE_FLAGS = ['--jitless', '--v8-pool-size=1', '--max-semi-space-size=1', '--max-old-space-size=24'];
