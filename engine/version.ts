/** The engine's pinned version: the CLI, the npm package @pulumi/pulumi and engine/go.mod move together (a test compares them). */
export const ENGINE_VERSION = '3.259.0';
