import Hummingbird
import NIOCore

var channel: any Channel { given() }
var router: Router<BasicRequestContext> { given() }
