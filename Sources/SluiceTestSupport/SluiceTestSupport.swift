// What users test with is what the tests here use.
@_exported import SluiceTesting
