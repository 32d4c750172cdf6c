import HTTPTypes
import SluiceHTTP
import Testing

@Suite("header fields by name")
struct HeadersTests {
  @Test("the case of a name counts for nothing; several of one name are a list")
  func reading() {
    let headers: Headers = ["Accept": "a", "X-One": "1", "accept": "b"]
    #expect(headers["ACCEPT"] == "a, b" && headers["x-one"] == "1" && headers["x-two"] == nil)
  }

  @Test("a value takes the place of all with its name, at the first one's place; nil takes them away")
  func writing() {
    var headers: Headers = ["A": "1", "B": "2", "a": "3", "C": "4"]
    headers["a"] = "5"
    #expect(headers.map { "\($0.name)=\($0.value)" } == ["a=5", "B=2", "C=4"])
    headers["D"] = "6"
    headers["b"] = nil
    headers["none"] = nil
    #expect(headers.map { "\($0.name)=\($0.value)" } == ["a=5", "C=4", "D=6"])
  }

  @Test("they are made of the fields of a request")
  func ofFields() {
    let headers = Headers([.accept: "a", .origin: "b"])
    #expect(headers.map { "\($0.name)=\($0.value)" } == ["Accept=a", "Origin=b"])
  }
}
