package etcdapi

import (
	"context"
	"strings"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// unary is the only interceptor of unary requests: it counts, and checks what
// the client asks for in the metadata.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	m := s.metrics.method(info.FullMethod)
	m.started.Add(1)
	m.received.Add(1)
	if err := s.admit(ctx, &s.metrics.unaryClients); err != nil {
		m.ended(err)
		return nil, err
	}
	resp, err := handler(ctx, req)
	if err == nil {
		m.sent.Add(1)
	}
	m.ended(err)
	return resp, err
}

// stream does the same for streams.
func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	m := s.metrics.method(info.FullMethod)
	m.started.Add(1)
	err := s.admit(stream.Context(), &s.metrics.streamClients)
	if err == nil {
		err = handler(srv, &countingStream{ServerStream: stream, method: m})
	}
	m.ended(err)
	return err
}

// admit refuses a request whose client wants a leader while there is none.
func (s *Server) admit(ctx context.Context, clients *clientVersions) error {
	ver := "unknown"
	if vs := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataClientAPIVersionKey); len(vs) > 0 {
		ver = vs[0]
		if !utf8.ValidString(ver) {
			return rpctypes.ErrGRPCInvalidClientAPIVersion
		}
	}
	clients.add(ver)
	wants := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataRequireLeaderKey)
	if len(wants) > 0 && wants[0] == rpctypes.MetadataHasLeader && s.group.Status().Leader == 0 {
		return rpctypes.ErrGRPCNoLeader
	}
	return nil
}

// countingStream counts a stream's messages.
type countingStream struct {
	grpc.ServerStream
	method *methodMetrics
}

func (c *countingStream) SendMsg(m any) error {
	err := c.ServerStream.SendMsg(m)
	if err == nil {
		c.method.sent.Add(1)
	}
	return err
}

func (c *countingStream) RecvMsg(m any) error {
	err := c.ServerStream.RecvMsg(m)
	if err == nil {
		c.method.received.Add(1)
	}
	return err
}

// unknownMethods answers requests for what is not registered at g. The text for
// the services that etcd has says that they are missing on purpose.
func unknownMethods(g func() *grpc.Server) grpc.StreamHandler {
	return func(_ any, stream grpc.ServerStream) error {
		full, _ := grpc.MethodFromServerStream(stream)
		service, method, _ := strings.Cut(strings.TrimPrefix(full, "/"), "/")
		switch service {
		case "v3lockpb.Lock", "v3electionpb.Election":
			return unsupported(service + "." + method)
		}
		if _, known := g().GetServiceInfo()[service]; known {
			return status.Errorf(codes.Unimplemented, "unknown method %v for service %v", method, service)
		}
		return status.Errorf(codes.Unimplemented, "unknown service %v", service)
	}
}

// unsupported is the answer to what etcd does and this version does not.
func unsupported(what string) error {
	return status.Errorf(codes.Unimplemented, "quorate: %s is not supported yet by this version", what)
}
