from tieline.transport.http1 import Http1Transport
def RoutingTransport(environ): return Http1Transport()
