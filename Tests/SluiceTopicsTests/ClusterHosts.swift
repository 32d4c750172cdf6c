import Sluice
import SluiceIO
import SluiceTopics
import Synchronization
import Testing

#if Redis
  @testable import SluiceTopicsRedis
#endif
#if NATS
  @testable import SluiceTopicsNATS
#endif

/// Three servers of one cluster, as processes on loopback, that end with this one. Tests share them, each by a prefix of its own: it takes seconds until they know
/// each other.
final class Cluster: Sendable {
  let ports: [Int]
  private let shell: ChildProcess

  /// - Parameter script: Starts servers, prints "ready" when they are a cluster, and goes on until its input ends.
  private init(_ script: String, ports: [Int]) async throws {
    self.ports = ports
    let numbers = ports.map { "\($0)" }.joined(separator: " ")
    shell = try await ChildProcess.spawn([
      "sh", "-c",
      """
      folder=$(mktemp -d); set -- \(numbers)
      end() { kill $pids 2>/dev/null; wait; rm -r $folder; exit; }
      trap end TERM INT
      \(script)
      echo ready; cat >/dev/null; end
      """,
    ])
    var text = ""
    while !text.contains("ready"), let part = try await shell.read() { text += part.string }
    guard text.contains("ready") else { throw TopicError.unavailable("the cluster does not start: \(text)") }
  }

  /// So many ports that nobody uses.
  private static func freePorts(_ count: Int) async throws -> [Int] {
    var ports: [Int] = []
    var listeners: [SocketListener] = []
    for _ in 0..<count {
      let listener = try await TCP.listen("127.0.0.1", port: 0)
      listeners.append(listener)
      ports.append(listener.port)
    }
    for listener in listeners { listener.cancel(nil) }
    return ports
  }

  #if Redis
    /// Redis Cluster, without replicas.
    static let redis = Task {
      try await Cluster(
        """
        slots=0
        for i in 1 2 3; do
          eval port=\\$$i; eval bus=\\$$((i + 3)); mkdir $folder/$i
          redis-server --port $port --cluster-port $bus --bind 127.0.0.1 --cluster-enabled yes --cluster-node-timeout 5000 \
            --dir $folder/$i --save "" --logfile $folder/$i/log & pids="$pids $!"
        done
        for i in 1 2 3; do
          eval port=\\$$i; eval bus=\\$$((i + 3))
          until [ "$(redis-cli -p $port ping 2>/dev/null)" = PONG ]; do sleep 0.02; done
          redis-cli -p $port cluster addslotsrange $((slots)) $((i == 3 ? 16383 : slots + 5460)) >/dev/null; slots=$((slots + 5461))
          redis-cli -p $1 cluster meet 127.0.0.1 $port $bus >/dev/null
        done
        for i in 1 2 3; do eval port=\\$$i
          until redis-cli -p $port cluster info | grep -q cluster_state:ok && [ $(redis-cli -p $port cluster nodes | grep -c connected) = 3 ]; do sleep 0.05; done
        done
        """, ports: try await freePorts(6))
    }
  #endif

  #if NATS
    /// NATS with JetStream.
    static let nats = Task {
      try await Cluster(
        """
        for i in 1 2 3; do
          eval port=\\$$i; eval route=\\$$((i + 3))
          nats-server -n n$i -a 127.0.0.1 -p $port -js -sd $folder/$i --cluster_name c --cluster nats://127.0.0.1:$route \
            --routes nats://127.0.0.1:$4,nats://127.0.0.1:$5,nats://127.0.0.1:$6 -l $folder/log$i & pids="$pids $!"
        done
        until grep -q "JetStream cluster new metadata leader" $folder/log?; do sleep 0.05; done
        """, ports: try await freePorts(6))
    }
  #endif

  var hosts: String { ports.prefix(3).map { "127.0.0.1:\($0)" }.joined(separator: ",") }
}

#if Redis
  struct RedisClusterHost: EngineHost {
    let cluster: Cluster
    let options: RedisOptions

    static func start() async throws -> RedisClusterHost {
      var options = RedisOptions()
      options.prefix = "t\(UInt64.random(in: 0 ... .max)):"
      return RedisClusterHost(cluster: try await Cluster.redis.value, options: options)
    }

    func connect(_ options: TopicsOptions) async throws -> Topics {
      try await Topics.redis("redis://" + cluster.hosts, redis: self.options, options: options)
    }

    func wipe(_ topic: String) async throws {
      for port in cluster.ports.prefix(3) {
        let connection = try await RedisServer("redis://127.0.0.1:\(port)", options).connect()
        defer { connection.close() }
        for key in ["log", "meta"] {
          // Where it is another one's, it is not there.
          _ = try await connection.send(RedisCommand("DEL", "\(options.prefix){\(topic)}:\(key)"), within: .seconds(5))
        }
      }
    }

    func stop() async {}
  }

  extension EngineUnderTest {
    static let redisCluster = EngineUnderTest(testDescription: "redis cluster") { try await RedisClusterHost.start() }
  }
#endif

#if NATS
  struct NATSClusterHost: EngineHost {
    let cluster: Cluster
    let options: NATSOptions

    static func start() async throws -> NATSClusterHost {
      var options = NATSOptions()
      options.prefix = "t\(UInt64.random(in: 0 ... .max))"
      options.replicas = 3
      return NATSClusterHost(cluster: try await Cluster.nats.value, options: options)
    }

    func connect(_ options: TopicsOptions) async throws -> Topics {
      try await Topics.nats("nats://" + cluster.hosts, nats: self.options, options: options)
    }

    func wipe(_ topic: String) async throws {
      let server = try NATSServer("nats://" + cluster.hosts, options)
      let connection = try await NATSConnection.open(server.hosts[0], of: server)
      defer { connection.close() }
      _ = try await connection.ask("$JS.API.STREAM.DELETE." + server.names.stream(topic), "")
    }

    func stop() async {}
  }

  extension EngineUnderTest {
    static let natsCluster = EngineUnderTest(testDescription: "nats cluster") { try await NATSClusterHost.start() }
  }
#endif
