/** What the agent needs of Node: for the installer, the simulated machines and whoever measures it. */

/** The oldest major version that it runs on (20.16). */
export const AGENT_NODE_VERSION = 20;

/** Without a compiler and with small spaces it takes 55 MB instead of 64; it does so little that it is not slower. */
export const AGENT_NODE_FLAGS = ['--jitless', '--v8-pool-size=1', '--max-semi-space-size=1', '--max-old-space-size=24'];
