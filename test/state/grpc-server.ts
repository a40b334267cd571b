/** A gRPC server on loopback, as the engine dials it. */
import grpc from '@grpc/grpc-js';

const MAX_MESSAGE_BYTES = 400 * 1024 * 1024;

export interface GrpcServer {
  port: number;
  close(): void;
}

export async function startGrpcServer(
  service: grpc.ServiceDefinition,
  handlers: grpc.UntypedServiceImplementation,
): Promise<GrpcServer> {
  const server = new grpc.Server({ 'grpc.max_receive_message_length': MAX_MESSAGE_BYTES });
  server.addService(service, handlers);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { port, close: () => server.forceShutdown() };
}

/** A method whose throw becomes the engine's error, by `describe` where it has more to say than a text. */
export function unary<Request, Response>(
  handle: (request: Request) => Response | Promise<Response>,
  describe: (error: unknown) => Partial<grpc.StatusObject> = describeError,
): grpc.handleUnaryCall<Request, Response> {
  const answer = async (request: Request, callback: grpc.sendUnaryData<Response>): Promise<void> => {
    let response: Response;
    try {
      response = await handle(request);
    } catch (error) {
      callback(describe(error));
      return;
    }
    callback(null, response);
  };
  return (call, callback) => void answer(call.request, callback);
}

export function describeError(error: unknown): Partial<grpc.StatusObject> {
  return { code: grpc.status.UNKNOWN, details: error instanceof Error ? error.message : String(error) };
}
