/** Speaks to a simulated cloud as the engine does: the calls of a resource provider, with plain values. */
import grpc from '@grpc/grpc-js';
import services from '@pulumi/pulumi/proto/provider_grpc_pb.js';
import messages from '@pulumi/pulumi/proto/provider_pb.js';
import status from '@pulumi/pulumi/proto/status_pb.js';
import empty from 'google-protobuf/google/protobuf/empty_pb.js';
import struct from 'google-protobuf/google/protobuf/struct_pb.js';
import type { JavaScriptValue } from 'google-protobuf/google/protobuf/struct_pb.js';

export type Values = Record<string, unknown>;

export interface CloudClient {
  configure(args: Values): Promise<void>;
  /** With a seed of its own per name, as the engine has. */
  check(type: string, name: string, news: Values, olds?: Values): Promise<{ inputs: Values; failures: Failure[] }>;
  diff(
    type: string,
    oldInputs: Values,
    news: Values,
  ): Promise<{ changed: string[]; replaces: string[]; isDeletedFirst: boolean }>;
  preview(type: string, name: string, inputs: Values): Promise<Values>;
  create(type: string, name: string, inputs: Values): Promise<{ id: string; properties: Values }>;
  /** check and create. */
  make(type: string, name: string, news: Values): Promise<{ id: string; inputs: Values; properties: Values }>;
  read(
    type: string,
    id: string,
    inputs?: Values,
    properties?: Values,
  ): Promise<{ inputs: Values; properties: Values } | null>;
  update(type: string, id: string, olds: Values, news: Values): Promise<Values>;
  delete(type: string, id: string, properties?: Values): Promise<void>;
  invoke(token: string, args: Values): Promise<Values>;
  cancel(): Promise<void>;
  close(): void;
}

export interface Failure {
  property: string;
  reason: string;
}

/** A create that made something and could not finish it. */
export class PartialError extends Error {
  readonly id: string;
  readonly properties: Values;

  constructor(message: string, id: string, properties: Values) {
    super(message);
    this.id = id;
    this.properties = properties;
  }
}

export function connectCloud(port: number): CloudClient {
  // As the engine's: a connection of its own for each, or all would share one and its configuration.
  const client = new services.ResourceProviderClient(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  });
  type Done<Response> = (error: grpc.ServiceError | null, response: Response) => void;
  const call = <Response>(start: (done: Done<Response>) => unknown): Promise<Response> =>
    new Promise((resolve, reject) => {
      start((error, response) => (error ? reject(toError(error)) : resolve(response)));
    });
  const self: CloudClient = {
    async configure(args) {
      await call<messages.ConfigureResponse>((done) =>
        client.configure(new messages.ConfigureRequest().setArgs(pack(args)), done),
      );
    },
    async check(type, name, news, olds) {
      const request = new messages.CheckRequest()
        .setUrn(urnOf(type, name))
        .setNews(pack(news))
        .setRandomseed(Buffer.from(`seed of ${name}`).toString('base64'));
      if (olds) request.setOlds(pack(olds));
      const reply = await call<messages.CheckResponse>((done) => client.check(request, done));
      const failures = reply.getFailuresList().map((one) => ({ property: one.getProperty(), reason: one.getReason() }));
      return { inputs: unpack(reply.getInputs()), failures };
    },
    async diff(type, oldInputs, news) {
      const request = new messages.DiffRequest()
        .setUrn(urnOf(type, 'any'))
        .setOldInputs(pack(oldInputs))
        .setNews(pack(news));
      const reply = await call<messages.DiffResponse>((done) => client.diff(request, done));
      return {
        changed: reply
          .getDetaileddiffMap()
          .toArray()
          .map(([path]) => path),
        replaces: reply.getReplacesList(),
        isDeletedFirst: reply.getDeletebeforereplace(),
      };
    },
    async preview(type, name, inputs) {
      const request = new messages.CreateRequest()
        .setUrn(urnOf(type, name))
        .setProperties(pack(inputs))
        .setPreview(true);
      return unpack((await call<messages.CreateResponse>((done) => client.create(request, done))).getProperties());
    },
    async create(type, name, inputs) {
      const request = new messages.CreateRequest().setUrn(urnOf(type, name)).setProperties(pack(inputs));
      const reply = await call<messages.CreateResponse>((done) => client.create(request, done));
      return { id: reply.getId(), properties: unpack(reply.getProperties()) };
    },
    async make(type, name, news) {
      const { inputs, failures } = await self.check(type, name, news);
      if (failures.length > 0) throw new Error(JSON.stringify(failures));
      return { inputs, ...(await self.create(type, name, inputs)) };
    },
    async read(type, id, inputs = {}, properties = {}) {
      const request = new messages.ReadRequest()
        .setId(id)
        .setUrn(urnOf(type, 'any'))
        .setInputs(pack(inputs))
        .setProperties(pack(properties));
      const reply = await call<messages.ReadResponse>((done) => client.read(request, done));
      if (reply.getId() === '') return null;
      return { inputs: unpack(reply.getInputs()), properties: unpack(reply.getProperties()) };
    },
    async update(type, id, olds, news) {
      const request = new messages.UpdateRequest()
        .setId(id)
        .setUrn(urnOf(type, 'any'))
        .setOlds(pack(olds))
        .setNews(pack(news));
      return unpack((await call<messages.UpdateResponse>((done) => client.update(request, done))).getProperties());
    },
    async delete(type, id, properties = {}) {
      await call<empty.Empty>((done) =>
        client.delete(
          new messages.DeleteRequest().setId(id).setUrn(urnOf(type, 'any')).setProperties(pack(properties)),
          done,
        ),
      );
    },
    async invoke(token, args) {
      const reply = await call<messages.InvokeResponse>((done) =>
        client.invoke(new messages.InvokeRequest().setTok(token).setArgs(pack(args)), done),
      );
      return unpack(reply.getReturn());
    },
    async cancel() {
      await call<empty.Empty>((done) => client.cancel(new empty.Empty(), done));
    },
    close: () => client.close(),
  };
  return self;
}

function urnOf(type: string, name: string): string {
  return `urn:pulumi:test::muster::${type}::${name}`;
}

function pack(values: Values): struct.Struct {
  return struct.Struct.fromJavaScript(JSON.parse(JSON.stringify(values)) as Record<string, JavaScriptValue>);
}

function unpack(message: struct.Struct | undefined): Values {
  return message?.toJavaScript() ?? {};
}

function toError(error: grpc.ServiceError): Error {
  const [packed] = error.metadata.get('grpc-status-details-bin');
  if (!packed) return new Error(error.details);
  const [detail] = status.Status.deserializeBinary(packed as Buffer).getDetailsList();
  const failed = messages.ErrorResourceInitFailed.deserializeBinary(detail!.getValue_asU8());
  return new PartialError(failed.getReasonsList().join('; '), failed.getId(), unpack(failed.getProperties()));
}
